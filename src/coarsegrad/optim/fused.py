"""One pass over memory: the native steps of BAMSProd, AdaBound, AMSBound, Bop and Bop2ndOrder.

Every function takes a parameter group, and as lists of equal length its tensors, their gradients
and columns of their state, and updates all of them in one parallel region. What the rules compute
is said in the optimizers' own files; results do not depend on the number of threads or the CPU.

``records``: None, or for each parameter a float64 tensor of ``RECORD + 2 K`` numbers; K is 1, or the
number of channels where each has bounds of its own. It holds, after the step::

    0 rho           relative quantization error (mean over channels); NaN without statistics
    1, 2            share of elements whose second moment (AdaBound: rate) lies below c_l, above c_u
    3               share of weights that changed sign
    4               share of elements where sqrt(vt)/eta fell since the step before
    5               eta; NaN before the first step
    6..6+K, ..6+2K  the bounds c_l and c_u that the step used
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter


def _load() -> ModuleType | None:
    try:
        from coarsegrad import _native
    except ImportError:  # a build without the compiled module
        return None
    return _native.optim


_native = _load()

RECORD = 6

_PLAIN = (Parameter, Tensor)
_float32, _strided = torch.float32, torch.strided
_contiguous = torch.contiguous_format


def available() -> bool:
    """Whether the native module is part of this build."""
    return _native is not None


def qualifies(parameter: Tensor, grad: Tensor, *state: Tensor | None) -> bool:
    """Whether a fused step can take this parameter: float32 on the CPU, in dense memory.

    The state has to lie in the parameter's order, contiguous or channels_last, so that output
    channels are runs of memory. A gradient in another order is copied, never written.
    """
    if (
        type(parameter) not in _PLAIN
        or type(grad) is not Tensor
        or not parameter.is_cpu
        or not grad.is_cpu
        or parameter.dtype is not _float32
        or grad.dtype is not _float32
        or parameter.layout is not _strided
        or grad.layout is not _strided
    ):
        return False
    order = _order(parameter)
    return order is not None and all(
        s is None or (s.dtype is _float32 and s.is_cpu and s.is_contiguous(memory_format=order))
        for s in state
    )


def bamsprod(
    group: dict[str, Any],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    steps: Sequence[Tensor],
    m: Sequence[Tensor],
    v: Sequence[Tensor],
    vhat: Sequence[Tensor],
    bounds: Sequence[Tensor] | None,
    records: Sequence[Tensor] | None = None,
) -> None:
    """Step BAMSProd; ``bounds`` None for groups of real parameters, which follow AMSGrad."""
    beta1, beta2 = group["betas"]
    box = group["box"] if bounds is not None else None
    reduce, memory = _reduction(group["reduce"])
    _run(
        _module().bamsprod,
        (params, grads, m, v, vhat, steps, bounds, records),
        by_channel=group["per"] == "channel",
        lr=float(group["lr"]),
        beta1=beta1,
        beta2=beta2,
        beta1_decay=group["beta1_decay"],
        beta1_lambda=group["beta1_lambda"],
        eps=group["eps"],
        gamma=1 - beta2 if group["gamma"] is None else group["gamma"],
        weight_decay=group["weight_decay"],
        **_box(box),
        kappa=group["kappa"],
        rho_min=group["rho_min"],
        cstar=group["cstar"],
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


def bound(
    group: dict[str, Any],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    steps: Sequence[Tensor],
    m: Sequence[Tensor],
    v: Sequence[Tensor],
    vhat: Sequence[Tensor] | None = None,
    records: Sequence[Tensor] | None = None,
) -> None:
    """Step AMSBound, or AdaBound where ``vhat`` is None."""
    beta1, beta2 = group["betas"]
    _run(
        _module().bound,
        (params, grads, m, v, vhat, steps, None, records),
        lr=float(group["lr"]),
        base_lr=float(group["base_lr"]),
        final_lr=group["final_lr"],
        beta1=beta1,
        beta2=beta2,
        gamma=group["gamma"],
        eps=group["eps"],
        weight_decay=group["weight_decay"],
        **_box(group["box"]),
        bias_correction=group["bias_correction"],
        maximize=group["maximize"],
    )


def bop(
    group: dict[str, Any],
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    steps: Sequence[Tensor],
    m: Sequence[Tensor],
    v: Sequence[Tensor] | None = None,
    records: Sequence[Tensor] | None = None,
) -> None:
    """Step Bop2ndOrder, or Bop where ``v`` is None."""
    _run(
        _module().bop,
        (params, grads, m, v, None, steps, None, records),
        rate=group["gamma"] * float(group["lr"]),
        sigma=group["sigma"] if v is not None else 0.0,
        threshold=group["threshold"],
        eps=group.get("eps", 1e-10),
        unbiased=v is not None and group.get("unbiased", False),
        maximize=group["maximize"],
    )


def _module() -> ModuleType:
    if _native is None:
        raise RuntimeError("this build of coarsegrad has no native module; pass fused=False")
    return _native


def _order(parameter: Tensor) -> torch.memory_format | None:
    """Return the order of a dense parameter whose dimension 0 is outermost in memory."""
    if parameter.is_contiguous():
        return _contiguous
    if parameter.dim() == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    if parameter.dim() == 5 and parameter.is_contiguous(memory_format=torch.channels_last_3d):
        return torch.channels_last_3d
    return None


def _reduction(reduce: str | tuple[str, float]) -> tuple[str, float]:
    return (reduce, 0.0) if isinstance(reduce, str) else (reduce[0], float(reduce[1]))


def _box(box: tuple[float, float] | None) -> dict[str, float]:
    low, high = (-math.inf, math.inf) if box is None else box
    return {"box_low": low, "box_high": high}


def _run(
    step: Callable[..., None], columns: Sequence[Sequence[Tensor] | None], **options: Any
) -> None:
    """Call a native step with the addresses of all columns, then count the tensors' versions up."""
    params, grads, *state = columns
    assert params is not None
    assert grads is not None
    # Held until the step is done: a copy's memory is only lent by its tensor.
    ordered = [_in_order(p, g) for p, g in zip(params, grads, strict=True)]
    nowhere = [0] * len(params)
    flat: list[int] = []
    changed: list[Tensor] = []
    for column in (params, ordered, *state):
        flat += nowhere if column is None else map(Tensor.data_ptr, column)
        if column is not None and column is not ordered:
            changed += column
    flat += map(Tensor.numel, params)
    flat += [p.size(0) if p.dim() > 1 else 1 for p in params]
    step(flat, torch.get_num_threads(), **options)
    increment_version(changed)


def _in_order(parameter: Tensor, grad: Tensor) -> Tensor:
    if grad.is_contiguous() and parameter.is_contiguous():
        return grad
    order = _order(parameter)
    assert order is not None
    return grad.contiguous(memory_format=order)
