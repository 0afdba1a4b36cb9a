"""The experiment of section 8.1, all seeds at once, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from coarsegrad.ste import CoarseDerivative, ReLU
from coarsegrad.theory.two_layer.decomposition import weight_norm
from coarsegrad.theory.two_layer.sweeps import Sweep, on_rays, on_samples

UNITS, DIMENSION = 24, 4
"""k and d of section 8.1."""


@final
@dataclass(frozen=True)
class Setting:
    """One setting of section 8.1.

    Args:
        theta: the angle between the classes' planes, in (0, pi/2].
        noise: s of the s N(0, I) added to the samples, once.
        bits: b of the activation, 1 to 8; the paper has 4.
        ste: the coarse derivative; the paper has ``ReLU()``. One without a q_b of its own takes
            2^b - 1.
        eta: the step size; the paper has 1.
        deviation: W^0 is drawn from N(0, deviation^2); the paper does not say.

    Raises:
        ValueError: a number is outside its range, or ``ste`` was made for another q_b.

    >>> Setting(math.pi / 4).bits
    4
    """

    theta: float = math.pi / 2
    noise: float = 0.0
    bits: int = 4
    ste: CoarseDerivative = field(default_factory=ReLU)
    eta: float = 1.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        ranges = (
            ("theta in (0, pi/2]", self.theta, 0 < self.theta <= math.pi / 2),
            ("a finite noise >= 0", self.noise, 0 <= self.noise < math.inf),
            ("bits of 1 to 8", self.bits, 1 <= self.bits <= 8),
            ("a finite eta > 0", self.eta, 0 < self.eta < math.inf),
            ("a finite deviation > 0", self.deviation, 0 < self.deviation < math.inf),
        )
        for needed, given, allowed in ranges:
            if not allowed:
                raise ValueError(f"Setting needs {needed}, got {given!r}")
        object.__setattr__(self, "ste", self.ste.for_top(2**self.bits - 1))


@final
@dataclass(frozen=True)
class Outcome:
    """What became of each seed; tensors of shape (seeds,).

    Attributes:
        iterations: the t of the first W^t with loss exactly 0, or -1.
        loss: the loss of the last W.
        norm: its |W|, the sum of the units' norms.
        start: |W^0|.
    """

    iterations: Tensor
    loss: Tensor
    norm: Tensor
    start: Tensor

    @property
    def reached(self) -> Tensor:
        """Which seeds reached loss 0."""
        return self.iterations >= 0


def initial(seeds: int, deviation: float = 1.0) -> Tensor:
    """Return W^0 for the seeds 0 to seeds - 1, (seeds, 24, 4), float64.

    >>> initial(2).shape
    torch.Size([2, 24, 4])
    """
    draws = [
        torch.randn(UNITS, DIMENSION, dtype=torch.float64,
                    generator=torch.Generator().manual_seed(seed))
        for seed in range(seeds)
    ]  # fmt: skip
    return deviation * torch.stack(draws)


def experiment(
    setting: Setting, seeds: int | Tensor, most: int,
    watch: Callable[[int, int], None] | None = None,
) -> Outcome:  # fmt: skip
    """Iterate (8) until the loss of every seed is exactly 0, or ``most`` times.

    Outputs are sums of halves of integers, so that a loss of 0 is exact. Seeds that reach it
    leave the batch; none sees the others.

    Args:
        setting: data, network and step.
        seeds: how many, 0 to seeds - 1; or the W^0 themselves, (seeds, 24, 4), float64.
        most: the largest number of iterations.
        watch: called as watch(t, seeds at work) every 100 iterations; it may raise to stop.

    Raises:
        ValueError: no seeds, ``most`` is negative, or the W^0 have another shape or dtype.

    >>> found = experiment(Setting(), seeds=2, most=50)
    >>> found.iterations.tolist(), bool((found.loss > 0).all())
    ([-1, -1], True)
    """
    w = _start(seeds, setting.deviation, most)
    sweep = _sweep(setting)
    found = Outcome(
        torch.full((len(w),), -1), torch.empty(len(w), dtype=w.dtype),
        torch.empty(len(w), dtype=w.dtype), weight_norm(w),
    )  # fmt: skip
    at_work = torch.arange(len(w))
    for t in range(most + 1):
        loss, gradient = sweep(w)
        done = loss == 0
        over = done | (t == most)
        if over.any():
            left = at_work[over]
            found.iterations[left] = torch.where(done[over], t, -1)
            found.loss[left], found.norm[left] = loss[over], weight_norm(w[over])
            at_work, w, gradient = at_work[~over], w[~over], gradient[~over]
            if not len(at_work):
                break
        if watch is not None and t % 100 == 0:
            watch(t, len(at_work))
        w = w - setting.eta * gradient
    return found


def _start(seeds: int | Tensor, deviation: float, most: int) -> Tensor:
    if most < 0:
        raise ValueError(f"experiment needs most >= 0 iterations, got {most}")
    if isinstance(seeds, int):
        if seeds < 1:
            raise ValueError(f"experiment needs 1 or more seeds, got {seeds}")
        return initial(seeds, deviation)
    if seeds.shape[1:] != (UNITS, DIMENSION) or seeds.dtype != torch.float64 or not len(seeds):
        raise ValueError(
            f"experiment needs W^0 of shape (seeds, {UNITS}, {DIMENSION}) and float64, got "
            f"{tuple(seeds.shape)} of {seeds.dtype}"
        )
    return seeds


def _sweep(setting: Setting) -> Sweep:
    if setting.noise:
        return on_samples(setting.theta, setting.noise, setting.bits, setting.ste)
    return on_rays(setting.theta, setting.bits, setting.ste)
