r"""ClippedSGD and NormalizedSGD: gradient descent whose step is bounded by the gradient's norm.

Zhang, He, Sra, Jadbabaie, "Why Gradient Clipping Accelerates Training: A Theoretical Justification
for Adaptivity", ICLR 2020, arXiv:1905.11881, equations (7) and (8).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, final

import torch
from torch import Tensor

from coarsegrad.optim import checks
from coarsegrad.optim import moments as mo
from coarsegrad.optim.paths import Ops
from coarsegrad.optim.rule import Batch, Rule, number


class _ByNorm(Rule):
    """Abstract: SGD with momentum and a rate that depends on the gradient's norm."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(
            params,
            {k: v for k, v in defaults.items() if k not in ("self", "params", "__class__")},
        )

    def _check(self, group: dict[str, Any]) -> None:
        checks.rate(group)
        checks.number("Invalid momentum value", group["momentum"], 0, 1, open_high=True)
        checks.number("Invalid weight_decay value", group["weight_decay"])
        checks.choice("norm", group["norm"], ("global", "tensor"))
        checks.box(group["box"])
        checks.flags(group)
        if group["fused"]:
            raise RuntimeError(f"{type(self).__name__} has no fused pass; leave `fused` at None")

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("m",) if group["momentum"] else ()

    def _rate(self, group: dict[str, Any], lr: Any, norm: Tensor) -> Tensor:
        """Return h, the rate of a gradient of this norm."""
        raise NotImplementedError

    def _shared(self, batches: list[Batch]) -> Tensor | None:
        """Return the norm of the whole gradient, over all groups."""
        grads = [g for batch in batches for g in batch.grads]
        if not grads or all(batch.group["norm"] == "tensor" for batch in batches):
            return None
        return _norm(grads)

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        group = batch.group
        lr = number(group["lr"], ops)
        norms = [shared if group["norm"] == "global" else _norm([g]) for g in batch.grads]
        rates = [
            -self._rate(group, lr, norm.to(g.device)).to(g.dtype)
            for norm, g in zip(norms, batch.grads, strict=True)
        ]
        columns = [batch.params, batch.grads, rates, batch.state.get("m", rates)]
        ops.rows(lambda path, *row: _update(path, group, lr, *row), *columns)


def _update(ops: Ops, group: dict[str, Any], lr: Any, w: Any, g: Any, rate: Any, m: Any) -> None:
    step = ops.times(g, rate)
    if group["momentum"]:
        ops.mul_(m, group["momentum"])
        ops.add_(m, step)
        step = m
    if group["weight_decay"]:
        ops.mul_(w, 1 - lr * group["weight_decay"])
    ops.add_(w, step)
    mo.project(ops, group, w)


@final
class ClippedSGD(_ByNorm):
    r"""Gradient descent with the clipped rate h = min(lr, max_norm lr / ||g||) of equation (7).

    ::

        m = momentum m - h g;    W = clamp((1 - lr weight_decay) W + m, box)

    Without momentum it is SGD after ``torch.nn.utils.clip_grad_norm_``, but ``.grad`` is not
    written. A gradient of norm zero moves nothing; a norm that is NaN makes every weight NaN, as
    a NaN gradient would.

    Args:
        params: parameters or groups.
        lr: eta_c, in units of w / g.
        max_norm: gamma, the norm from which on steps have the same length, in units of g.
        momentum: in [0, 1); 0 keeps no state.
        weight_decay: decoupled.
        norm: ``"global"``, of all gradients in all groups, or ``"tensor"``, one a parameter.
        box: (low, high) of the weights, or None; groups with ``binary=False`` have none.
        foreach: run list by list; None does so on CUDA.
        maximize: step along the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: not offered: True is an error.
        diagnostics: keep what ``diagnostics()`` tells of each step: the share of flips.

    Raises:
        ValueError: a value out of range, with the range.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> ClippedSGD([w], lr=0.1, max_norm=1.0).step(); w.data
    tensor([2.9400, 3.9200])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        max_norm: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        norm: Literal["global", "tensor"] = "global",
        box: tuple[float, float] | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        checks.number("Invalid max_norm value", group["max_norm"], open_low=True)

    def _rate(self, group: dict[str, Any], lr: Any, norm: Tensor) -> Tensor:
        return torch.mul((group["max_norm"] / norm).clamp(max=1.0), lr)


@final
class NormalizedSGD(_ByNorm):
    r"""Gradient descent with the rate h = lr / (||g|| + beta) of equation (8).

    ::

        m = momentum m - h g;    W = clamp((1 - lr weight_decay) W + m, box)

    With lr = max_norm lr_c and beta = max_norm it lies between half of ClippedSGD's step and the
    whole: h_c / 2 <= h <= h_c.

    Args:
        params: parameters or groups.
        lr: eta_n, the length of a step where the gradient is large, in units of w.
        beta: the norm below which steps shrink with the gradient, in units of g.
        momentum: in [0, 1); 0 keeps no state.
        weight_decay: decoupled.
        norm: ``"global"``, of all gradients in all groups, or ``"tensor"``, one a parameter.
        box: (low, high) of the weights, or None; groups with ``binary=False`` have none.
        foreach: run list by list; None does so on CUDA.
        maximize: step along the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: not offered: True is an error.
        diagnostics: keep what ``diagnostics()`` tells of each step: the share of flips.

    Raises:
        ValueError: a value out of range, with the range.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> NormalizedSGD([w], lr=0.1, beta=5.0).step(); w.data
    tensor([2.9700, 3.9600])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        beta: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        norm: Literal["global", "tensor"] = "global",
        box: tuple[float, float] | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        checks.number("Invalid beta value", group["beta"], open_low=True)

    def _rate(self, group: dict[str, Any], lr: Any, norm: Tensor) -> Tensor:
        return torch.div(lr, norm + group["beta"])


def _norm(grads: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together, 0-d; 16-bit ones in float32."""
    norms = [torch.linalg.vector_norm(g, dtype=_wide(g.dtype)) for g in grads]
    first = norms[0]
    dtype = torch.float64 if any(n.dtype == torch.float64 for n in norms) else first.dtype
    total: Tensor = torch.linalg.vector_norm(
        torch.stack([n.to(first.device, dtype) for n in norms])
    )
    return total


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
