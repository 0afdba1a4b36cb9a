"""A whole run under the eyes of the lemmas, and Proposition 1 at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from coarsegrad.theory.two_layer.assumptions import own_pull, pull_range
from coarsegrad.theory.two_layer.classes import Law
from coarsegrad.theory.two_layer.decomposition import component
from coarsegrad.theory.two_layer.lemmas import Check, Step, Verdict, lemma_step
from coarsegrad.theory.two_layer.network import TwoLayer


@final
@dataclass(frozen=True)
class Proposition1:
    r"""The sum of \|G\|^2 over a run, and its bounds, at the own unit where it is largest.

    .. math:: \sum_t |G|^2 \leq \frac{2 n C_p \hat v^2 \tilde\delta^2 M^2}{\eta \tilde v \delta} R

    Attributes:
        total: the sum, the largest over own units.
        bound: the paper's, with R = the largest |w_j^t| of the run.
        telescoped: the same with that unit's |w_{j,i}^T| - |w_{j,i}^0| for R: what the
            proof gives before it is made larger.
        holds: for every own unit, the telescoped bound included.
    """

    total: float
    bound: float
    telescoped: float
    holds: bool


@final
@dataclass(frozen=True)
class Monitored:
    """A run: its steps, its end, and Proposition 1.

    Attributes:
        steps: one of each iteration.
        reached: whether the loss ended at exactly 0.
        w: the last weights (k, d).
        proposition1: None where no step was made.
    """

    steps: tuple[Step, ...]
    reached: bool
    w: Tensor
    proposition1: Proposition1 | None

    def worst(self, lemma: str) -> Check:
        """Return the least ratio and the worst verdict of ``lemma51``, ``53`` or ``55``."""
        checks: list[Check] = [getattr(step, lemma) for step in self.steps]
        order: list[Verdict] = ["holds", "within quadrature", "violated"]
        worst = max((order.index(check.verdict) for check in checks), default=0)
        return Check(min((check.ratio for check in checks), default=torch.inf), order[worst])

    @property
    def decreases(self) -> int:
        """How often an own |w_{j,i}| became smaller, by more than rounding."""
        return sum(int((step.growth < -1e-12).sum()) for step in self.steps)


def monitor(
    net: TwoLayer, laws: Sequence[Law], w: Tensor, eta: float = 1.0, most: int = 5000,
    watch: Callable[[int], None] | None = None,
) -> Monitored:  # fmt: skip
    """Run iteration (8) on the classes' laws to loss 0, or ``most`` steps, checking each.

    Args:
        net: the network.
        laws: a law for each class.
        w: W^0, (k, d), float64.
        eta: the step size.
        most: the largest number of iterations.
        watch: called as watch(t) every 100 iterations; it may raise to stop.

    Raises:
        ValueError: the number of laws is not that of the classes.

    >>> from coarsegrad.theory.two_layer import annulus, block_readout, planes
    >>> laws = [annulus(basis, "polar", radii=6, angles=40) for basis in planes(torch.pi / 2)]
    >>> generator = torch.Generator().manual_seed(0)
    >>> w = torch.randn(24, 4, dtype=torch.float64, generator=generator)
    >>> found = monitor(TwoLayer(block_readout(2, 24)), laws, w, most=20)
    >>> found.worst("lemma51").verdict, found.decreases, found.proposition1.holds
    ('holds', 0, True)
    """
    start, largest, reached = w, w.norm(dim=1), False
    steps: list[Step] = []
    for _ in range(most + 1):
        step, after = lemma_step(net, laws, w, eta)
        if step.loss == 0:
            reached = True
            break
        if len(steps) == most:
            break
        if watch is not None and len(steps) % 100 == 0:
            watch(len(steps))
        steps.append(step)
        w = after
        largest = torch.maximum(largest, w.norm(dim=1))
    proposition = _proposition(net, laws, start, w, float(largest.max()), eta, steps)
    return Monitored(tuple(steps), reached, w, proposition)


def _proposition(
    net: TwoLayer, laws: Sequence[Law], start: Tensor, end: Tensor, largest: float, eta: float,
    steps: Sequence[Step],
) -> Proposition1 | None:  # fmt: skip
    if not steps:
        return None
    delta = min(step.slopes[0] for step in steps)
    delta_tilde = max(step.slopes[1] for step in steps)
    total = torch.stack([step.squares for step in steps]).sum(0)
    own, mine = own_pull(net.v), own_pull(net.v) > 0
    scale = torch.tensor([[law.c_p * law.largest**2] for law in laws], dtype=own.dtype)
    factor = 2 * len(laws) * scale * (pull_range(net.v) * delta_tilde) ** 2 / (eta * own * delta)
    grown = torch.stack([
        component(end, law.basis).norm(dim=1) - component(start, law.basis).norm(dim=1)
        for law in laws
    ])  # fmt: skip
    holds = bool((total <= factor * grown + 1e-12)[mine].all())
    at = int(torch.where(mine, total, -1).argmax())
    telescoped = float((factor * grown).flatten()[at])
    return Proposition1(
        float(total.flatten()[at]), float(factor.flatten()[at]) * largest, telescoped, holds
    )
