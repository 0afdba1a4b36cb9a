r"""AdaBound and AMSBound: Adam whose rate is clipped into bounds that close on that of SGD.

Luo et al., "Adaptive Gradient Methods with Dynamic Bound of Learning Rate", ICLR 2019,
arXiv:1902.09843, Algorithm 2, in the form of the authors' code: with bias correction and eps, and
without the division by sqrt(t).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, final

from torch import Tensor

from coarsegrad.optim import checks, fused
from coarsegrad.optim import moments as mo
from coarsegrad.optim.paths import Ops
from coarsegrad.optim.records import Limits, Watch
from coarsegrad.optim.rule import Batch, Rule, counts, number


class _Bounded(Rule):
    """Abstract: what AdaBound and AMSBound share; they differ in the second moment they use."""

    amsbound: ClassVar[bool]

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        box: tuple[float, float] | None = None,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        options = {
            key: value
            for key, value in locals().items()
            if key not in ("self", "params", "__class__")
        }
        super().__init__(params, options)

    def _check(self, group: dict[str, Any]) -> None:
        checks.rate(group)
        checks.betas(group)
        checks.number("Invalid final learning rate", group["final_lr"])
        checks.number("Invalid gamma value", group["gamma"], open_low=True)
        checks.number("Invalid epsilon value", group["eps"], open_low=True)
        checks.number("Invalid weight_decay value", group["weight_decay"])
        checks.box(group["box"])
        checks.flags(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its ``lr`` now is the base that ``final_lr`` is tied to."""
        param_group.setdefault("base_lr", float(param_group.get("lr", self.defaults["lr"])))
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("base_lr", float(group.get("initial_lr", group["lr"])))

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("m", "v", "vhat") if self.amsbound else ("m", "v")

    def _fused(self, batch: Batch, shared: Any, record: list[Tensor] | None) -> bool:
        return fused.bound(batch, record)

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        state = batch.state
        used = state["vhat" if self.amsbound else "v"]
        ops.rows(
            lambda path, *row: _update(path, batch.group, *row),
            batch.params, batch.grads, state["m"], state["v"], used, counts(ops, batch),
        )  # fmt: skip

    def _limits(self, batch: Batch, i: int, watch: Watch) -> Limits:
        group, t = batch.group, float(batch.state["step"][i])
        lr = float(group["lr"])
        second = batch.state["vhat" if self.amsbound else "v"][i]
        rate = mo.corrected(lr, group, t) / (second.sqrt() + group["eps"])
        lower, upper = rate_bounds(group, lr, t)
        return Limits(value=rate, lower=rate.new_tensor(lower), upper=rate.new_tensor(upper))


@final
class AdaBound(_Bounded):
    r"""Adam with the rate of each element clipped into [L(t), U(t)], which closes on ``final_lr``.

    In step t, with F = final_lr lr / base_lr::

        m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
        s = lr sqrt(1 - beta2^t) / (1 - beta1^t)
        L = F (1 - 1 / (gamma t + 1));   U = F (1 + 1 / (gamma t))
        W = clamp((1 - lr weight_decay) W - clip(s / (sqrt(v) + eps), L, U) m, box)

    ``base_lr`` is the group's ``lr`` when it was added; it is kept in the group, so that copies,
    pickles, added groups and resumed runs keep the tie that the authors' code loses. lr = 0 is
    legal and moves nothing.

    Args:
        params: parameters or groups.
        lr: initial rate, in units of the weight.
        betas: (beta1, beta2), each in [0, 1).
        final_lr: the rate of SGD it ends with, in units of w / g.
        gamma: speed at which the bounds close, in 1/step.
        eps: added to sqrt(v), in units of g.
        weight_decay: decoupled: W loses lr weight_decay W in a step.
        bias_correction: whether s corrects the moments' start at zero.
        box: (low, high) of the weights, or None; the projection of the paper's Algorithm 2. Groups
            with ``binary=False`` have none.
        foreach: run list by list; None does so on CUDA.
        maximize: step along the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: one native pass for float32 on the CPU; None and True use it where it applies.
        diagnostics: keep what ``diagnostics()`` tells of each step.

    Raises:
        ValueError: a value out of range, with the range.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    >>> opt = AdaBound([w], lr=0.1, box=(-1, 1))
    >>> (w**2).sum().backward(); opt.step(); w.data
    tensor([ 0.4000, -0.4000])
    """

    amsbound = False


@final
class AMSBound(_Bounded):
    r"""AdaBound with vhat = max(vhat, v) in place of v; everything else is AdaBound's.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    >>> opt = AMSBound([w], lr=0.1)
    >>> (w**2).sum().backward(); opt.step(); w.data
    tensor([ 0.4000, -0.4000])
    """

    amsbound = True


def rate_bounds(group: dict[str, Any], lr: Any, t: Any) -> tuple[Any, Any]:
    """Return (L, U) of step t, in units of w / g."""
    base, gamma = group["base_lr"], group["gamma"]
    # A base of 0 ties to nothing: final_lr then holds as it is, and lr = 0 still moves nothing.
    ratio = lr / base if base else (lr > 0) * 1.0
    final_lr = group["final_lr"] * ratio
    return final_lr * (1 - 1 / (gamma * t + 1)), final_lr * (1 + 1 / (gamma * t))


def _update(
    ops: Ops, group: dict[str, Any], w: Any, g: Any, m: Any, v: Any, used: Any, t: Any
) -> Any:
    mo.accumulate(ops, group, g, m, v, t)
    if used is not v:
        ops.maximum_(used, v)
    lr = number(group["lr"], ops)
    # clip(s / d, L, U) m = m / clip(d / s, 1/U, 1/L): the division is done once, by addcdiv.
    d = ops.sqrt(used, None)
    ops.add_(d, group["eps"])
    size = ops.each(lambda step: mo.corrected(lr, group, step), t)
    limits = ops.each(lambda step: rate_bounds(group, lr, step), t)
    rate = ops.each(lambda x, s, pair: (s / x).clamp_(*pair), d, size, limits)
    eta = ops.each(lambda step: lr, t)
    mo.shrink(ops, group, w, eta)
    ops.addcmul_(w, rate, m, -1)
    mo.project(ops, group, w)
