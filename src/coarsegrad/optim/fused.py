"""One pass over memory: the native steps of BAMSProd, AdaBound, AMSBound, Bop and Bop2ndOrder.

Each function updates all tensors of a batch in one parallel region; what the rules compute is said
in the optimizers' own files, and ``records`` says what a record holds. Results do not depend on the
number of threads or on the CPU.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from coarsegrad.optim.bounds import gamma_of, reduction

if TYPE_CHECKING:
    from coarsegrad.optim.rule import Batch


def _load() -> ModuleType | None:
    try:
        from coarsegrad import _native
    except ImportError:  # a build without the compiled module
        return None
    return _native.optim


_native = _load()

_CONTIGUOUS = torch.contiguous_format
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# State that is not laid out as its parameter, and its dtype.
_SMALL = {"step": torch.float32, "bounds": torch.float64}

# C functions, which map() calls without the interpreter: a list of 161 small tensors is looked at
# and stepped in less than half a millisecond.
_dtype, _is_cpu, _layout = map(attrgetter, ("dtype", "is_cpu", "layout"))


def available() -> bool:
    """Whether the native module is part of this build."""
    return _native is not None


def fitting(params: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]]) -> list[int]:
    """Return which parameters the native module can step: float32 on the CPU, in dense memory.

    The state has to lie in the parameter's order, contiguous or channels_last, so that output
    channels are runs of memory. A gradient in another order is copied, never written.
    """
    if _native is None:
        # The interpreter's own registry of warnings shows each text once.
        warnings.warn(
            "the native module is not built into this install; optimizers step tensor by tensor, "
            "some three times slower on a CPU; fused=False says that you know",
            RuntimeWarning,
            stacklevel=6,
        )
        return []
    state = {name: column for name, column in state.items() if column}
    large = [column for name, column in state.items() if name not in _SMALL]
    small = [(column, _SMALL[name]) for name, column in state.items() if name in _SMALL]
    fit = list(range(len(params)))
    if not _plain(params, grads, large, small):
        fit = [i for i in fit if _plain(*_row(i, params, grads, large, small))]
    if len(fit) == len(params) and all(map(Tensor.is_contiguous, chain(params, *large))):
        return fit
    return [i for i in fit if _alike(params[i], [column[i] for column in large])]


def bamsprod(batch: Batch, record: list[Tensor] | None) -> bool:
    """Step BAMSProd; a batch without bounds, of real parameters, follows AMSGrad."""
    group, bounded = batch.group, "bounds" in batch.state
    beta1, beta2 = group["betas"]
    reduce, memory = reduction(group["reduce"])
    return _run(
        "bamsprod",
        batch,
        record,
        by_channel=group["per"] == "channel",
        lr=float(group["lr"]),
        beta1=beta1,
        beta2=beta2,
        beta1_decay=group["beta1_decay"],
        beta1_lambda=group["beta1_lambda"],
        eps=group["eps"],
        gamma=gamma_of(group),
        weight_decay=group["weight_decay"],
        **_box(group),
        kappa=group["kappa"],
        rho_min=group["rho_min"],
        cstar=group["cstar"] if bounded else "constant",
        c=group["c"],
        L_inf=group["L_inf"],
        D_inf=group["D_inf"],
        alpha=math.nan if group["alpha"] is None else group["alpha"],
        reduce=reduce,
        memory=memory,
        average=group["vhat"] == "average",
        inverse_sqrt=group["lr_decay"] == "invsqrt",
        bias_correction=group["bias_correction"],
        sqrt_space=group["space"] == "sqrt",
        maximize=group["maximize"],
    )


def bound(batch: Batch, record: list[Tensor] | None) -> bool:
    """Step AMSBound, or AdaBound where there is no ``vhat``."""
    group = batch.group
    beta1, beta2 = group["betas"]
    return _run(
        "bound",
        batch,
        record,
        lr=float(group["lr"]),
        base_lr=float(group["base_lr"]),
        final_lr=group["final_lr"],
        beta1=beta1,
        beta2=beta2,
        gamma=group["gamma"],
        eps=group["eps"],
        weight_decay=group["weight_decay"],
        **_box(group),
        bias_correction=group["bias_correction"],
        maximize=group["maximize"],
    )


def bop(batch: Batch, record: list[Tensor] | None) -> bool:
    """Step Bop2ndOrder, or Bop where there is no ``v``."""
    group, second = batch.group, "v" in batch.state
    return _run(
        "bop",
        batch,
        record,
        rate=group["gamma"] * float(group["lr"]),
        sigma=group["sigma"] if second else 0.0,
        threshold=group["threshold"],
        eps=group["eps"] if second else 0.0,
        unbiased=second and group["unbiased"],
        maximize=group["maximize"],
    )


_Small = list[tuple[list[Tensor], torch.dtype]]


def _row(
    i: int, params: list[Tensor], grads: list[Tensor], large: list[list[Tensor]], small: _Small
) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]], _Small]:
    """Return the entry i of every list, as lists of one."""
    return (
        [params[i]],
        [grads[i]],
        [[column[i]] for column in large],
        [([column[i]], dtype) for column, dtype in small],
    )


def _plain(
    params: list[Tensor], grads: list[Tensor], large: list[list[Tensor]], small: _Small
) -> bool:
    """Whether all are ordinary tensors of the right dtype in the CPU's memory."""
    given, kept = [*params, *grads], list(chain(*large))
    return (
        {*map(type, given)} <= {Tensor, Parameter}
        and {*map(_layout, given)} <= {torch.strided}
        and {*map(_dtype, given), *map(_dtype, kept)} <= {torch.float32}
        and all(map(_is_cpu, given))
        and all(map(_is_cpu, kept))
        and all({*map(_dtype, column)} <= {dtype} for column, dtype in small)
        and all(all(map(_is_cpu, column)) for column, _ in small)
    )


def _alike(parameter: Tensor, state: list[Tensor]) -> bool:
    """Whether the state lies in memory in the order of its parameter."""
    order = _order(parameter)
    return order is not None and all(
        t.is_contiguous(memory_format=order) for t in (parameter, *state)
    )


def _order(parameter: Tensor) -> torch.memory_format | None:
    """Return the order of a dense parameter whose dimension 0 is outermost in memory."""
    if parameter.is_contiguous():
        return _CONTIGUOUS
    order = _LAST.get(parameter.dim())
    if order is None or not parameter.is_contiguous(memory_format=order):
        return None
    return order


def _box(group: dict[str, Any]) -> dict[str, float]:
    free = group["box"] is None or not group.get("binary", True)
    low, high = (-math.inf, math.inf) if free else group["box"]
    return {"box_low": low, "box_high": high}


def _run(name: str, batch: Batch, record: list[Tensor] | None, **options: Any) -> bool:
    """Call a native step with the addresses of all tensors; the parameters' versions go up."""
    if _native is None:
        return False
    step: Callable[..., None] = getattr(_native, name)
    params, state = batch.params, batch.state
    # Held until the step is done: the memory of a copy is its own.
    grads = batch.grads
    if not (all(map(Tensor.is_contiguous, grads)) and all(map(Tensor.is_contiguous, params))):
        grads = [_in_order(p, g) for p, g in zip(params, grads, strict=True)]
    nowhere = [0] * len(params)
    columns: list[list[Tensor] | None] = [params, grads]
    columns += [state.get(key) for key in ("m", "v", "vhat", "step", "bounds")]
    flat: list[int] = []
    for column in (*columns, record):
        flat += nowhere if column is None else map(Tensor.data_ptr, column)
    flat += map(Tensor.numel, params)
    flat += [p.size(0) if p.dim() > 1 else 1 for p in params]
    step(flat, torch.get_num_threads(), **options)
    # Autograd looks at the versions of parameters; nobody's graph holds the state.
    increment_version(params)
    return True


def _in_order(parameter: Tensor, grad: Tensor) -> Tensor:
    order = _order(parameter)
    assert order is not None
    return grad.contiguous(memory_format=order)
