r"""Bop and Bop2ndOrder: optimizers that flip binary weights and know no latent ones.

Helwegen et al., "Latent Weights Do Not Exist: Rethinking Binarized Neural Network Optimization",
NeurIPS 2019, arXiv:1906.02107, Algorithm 1; Suarez-Ramirez et al., "A Bop and Beyond: A Second
Order Optimizer for Binarized Neural Networks", CVPRW 2021, arXiv:2104.05124.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from coarsegrad.optim import checks, fused
from coarsegrad.optim.paths import Ops
from coarsegrad.optim.rule import Batch, Rule, number


class _Flips(Rule):
    """Abstract: what Bop and Bop2ndOrder share: binary weights, a rate and a threshold."""

    flips: ClassVar[bool] = True

    def _check(self, group: dict[str, Any]) -> None:
        checks.rate(group)
        checks.number("Invalid gamma value", group["gamma"], 0, 1, open_low=True)
        checks.number("Invalid threshold value", group["threshold"])
        if not isinstance(group["lr"], Tensor) and group["lr"] * group["gamma"] > 1:
            raise ValueError(
                f"Invalid learning rate: {group['lr']} (lr * gamma is the share of the new "
                f"gradient in m and must be in [0, 1], with gamma={group['gamma']})"
            )
        checks.flags(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group.

        Raises:
            ValueError: a weight that is not -1 or +1, by the parameter's name.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            for p in group["params"]:
                self._refuse_unless_binary(p, group)
        except ValueError:
            self.param_groups.pop()
            raise

    def _refuse_unless_binary(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if parameter.is_meta or parameter.is_complex():
            return
        off = parameter.detach().abs() != 1
        if not bool(off.any()):
            return
        place = next(i for i, p in enumerate(group["params"]) if p is parameter)
        names = group.get("param_names")
        raise ValueError(
            f"{type(self).__name__} needs weights that are -1 or +1, but "
            f"{names[place] if names else f'parameter {place}'} of shape {list(parameter.shape)} "
            f"holds {parameter.detach()[off][0].item():g}; call "
            "coarsegrad.nn.binarize_latents_(model) first, and give it latent binary weights only"
        )

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        # Other weights may have been loaded since the optimizer was made.
        self._refuse_unless_binary(parameter, group)
        return super()._new_state(parameter, group)


@final
class Bop(_Flips):
    r"""Flip a binary weight when the mean gradient argues against it strongly enough.

    ::

        m = (1 - gamma') m + gamma' g,   gamma' = gamma lr
        w -> -w   iff   w m > threshold                 (a tie keeps the weight)

    The published code sets tied weights to +1 whatever they were; a tie here keeps the weight, so
    that a step without gradient flips nothing. m has the unit of the gradient, so the threshold
    depends on the loss scale.

    Args:
        params: parameters or groups, each weight -1 or +1; ``nn.binarize_latents_`` makes them so.
        lr: multiplies gamma, so that learning rate schedulers decay gamma; no unit.
        gamma: adaptivity rate, the share of the new gradient, in (0, 1].
        threshold: tau, in units of the gradient; 0 flips on any argument.
        foreach: run list by list; None does so on CUDA.
        maximize: flip towards the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: one native pass for float32 on the CPU; None and True use it where it applies.
        diagnostics: keep what ``diagnostics()`` tells of each step: the share of flips.

    ``gamma`` and ``threshold`` are read from the group in every step: ``GroupSchedule`` or a line
    of your own may change them.

    Raises:
        ValueError: a value out of range, or a weight that is not -1 or +1, by name.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -1.0, 1.0]))
    >>> w.grad = torch.tensor([0.3, 0.3, 0.0])
    >>> Bop([w], gamma=0.1, threshold=1e-3).step(); w.data
    tensor([-1., -1.,  1.])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        gamma: float = 1e-4,
        threshold: float = 1e-8,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "gamma": gamma, "threshold": threshold, "foreach": foreach,
            "maximize": maximize, "capturable": capturable, "fused": fused,
            "diagnostics": diagnostics,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("m",)

    def _fused(self, batch: Batch, shared: Any, record: list[Tensor] | None) -> bool:
        return fused.bop(batch, record)

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        group = batch.group
        rate = group["gamma"] * number(group["lr"], ops)
        ops.rows(lambda path, m, g: path.lerp_(m, g, rate), batch.state["m"], batch.grads)
        for w, m in zip(batch.params, batch.state["m"], strict=True):
            flip_(w, m, group["threshold"])


@final
class Bop2ndOrder(_Flips):
    r"""Bop with the mean gradient divided by its root mean square, so that loss scale cancels.

    ::

        m += gamma' (g - m),   gamma' = gamma lr;   v += sigma (g^2 - v)
        w -> -w   iff   w m / (sqrt(v) + eps) > threshold       (a tie keeps the weight)

    ``unbiased`` uses (m / gamma') / (sqrt(v / sigma) + eps) instead, as the branch of the paper's
    code does. With constant gamma and sigma it is the biased rule with the threshold
    threshold gamma / sqrt(sigma), up to eps: constant factors, not Adam's correction.

    Args:
        params: parameters or groups, each weight -1 or +1; ``nn.binarize_latents_`` makes them so.
        lr: multiplies gamma, so that learning rate schedulers decay gamma; no unit.
        gamma: share of the new gradient in m, in (0, 1].
        threshold: tau, no unit.
        sigma: share of the new squared gradient in v, in (0, 1].
        eps: added to sqrt(v), in units of the gradient.
        unbiased: the form with both constants divided out.
        foreach: run list by list; None does so on CUDA.
        maximize: flip towards the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: one native pass for float32 on the CPU; None and True use it where it applies.
        diagnostics: keep what ``diagnostics()`` tells of each step: the share of flips.

    Raises:
        ValueError: a value out of range, or a weight that is not -1 or +1, by name.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, -1.0, 1.0]))
    >>> w.grad = torch.tensor([0.3, 0.3, 0.0])
    >>> Bop2ndOrder([w], gamma=0.1).step(); w.data
    tensor([-1., -1.,  1.])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        gamma: float = 1e-6,
        threshold: float = 1e-6,
        sigma: float = 1e-2,
        eps: float = 1e-10,
        *,
        unbiased: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "gamma": gamma, "threshold": threshold, "sigma": sigma, "eps": eps,
            "unbiased": unbiased, "foreach": foreach, "maximize": maximize,
            "capturable": capturable, "fused": fused, "diagnostics": diagnostics,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        checks.number("Invalid sigma value", group["sigma"], 0, 1, open_low=True)
        checks.number("Invalid epsilon value", group["eps"], open_low=True)
        super()._check(group)

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("m", "v")

    def _fused(self, batch: Batch, shared: Any, record: list[Tensor] | None) -> bool:
        return fused.bop(batch, record)

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        group, state = batch.group, batch.state
        rate = group["gamma"] * number(group["lr"], ops)
        ops.rows(
            lambda path, *row: _moments(path, group, rate, *row),
            batch.grads, state["m"], state["v"],
        )  # fmt: skip
        for w, m, v in zip(batch.params, state["m"], state["v"], strict=True):
            flip_(w, _argument(group, rate, m, v), group["threshold"])


def flip_(w: Tensor, argument: Tensor, threshold: float) -> None:
    """Do w -> -w where w argument > threshold, in place; ties keep the weight."""
    w.copy_(torch.where(w * argument > threshold, -w, w))


def _moments(ops: Ops, group: dict[str, Any], rate: Any, g: Any, m: Any, v: Any) -> None:
    ops.lerp_(m, g, rate)
    ops.mul_(v, 1 - group["sigma"])
    ops.addcmul_(v, g, g, group["sigma"])


def _argument(group: dict[str, Any], rate: Any, m: Tensor, v: Tensor) -> Tensor:
    if not group["unbiased"]:
        return torch.div(m, v.sqrt() + group["eps"])
    # A schedule that has ended at rate 0 says nothing more about any weight.
    scaled = m / rate if isinstance(rate, Tensor) or rate else torch.zeros_like(m)
    return torch.div(scaled, (v / group["sigma"]).sqrt() + group["eps"])
