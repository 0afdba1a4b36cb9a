r"""RVSCGD, Algorithm 1, with the expected coarse gradient; ADMM (section 3.3) beside it.

Dinh and Xin 2020 (Front. Appl. Math. Stat. 6:13), all seeds at once, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coarsegrad import prox
from coarsegrad.errors import DivergenceError, InputError
from coarsegrad.theory.one_layer import thresholds
from coarsegrad.theory.one_layer.network import OneLayer, direction

Array = NDArray[np.float64]
Penalty = Literal["l0", "l1", "transformed_l1"]
"""P of the objective (4): how sparsity is paid for."""

CHECKED = 5000
"""Iterations between two looks for numbers that are not finite."""


@final
@dataclass(frozen=True)
class Splitting:
    """The parameters of Algorithm 1; the defaults are those of the paper's Fig. 4.

    Args:
        penalty: P: ``l0``, ``l1`` or ``transformed_l1``.
        lam: lambda, >= 0.
        beta: > 0.
        eta: the step size, > 0.
        a: of ``transformed_l1``, > 0.
        admm: with the multipliers z of section 3.3, z <- z + beta (w - u).

    Raises:
        InputError: a value out of range.

    >>> Splitting().r
    0.025
    """

    penalty: Penalty = "l0"
    lam: float = 1e-4
    beta: float = 4e-3
    eta: float = 1e-5
    a: float = 1.0
    admm: bool = False

    def __post_init__(self) -> None:
        ranges = (
            ("a penalty of l0, l1, transformed_l1", self.penalty,
             self.penalty in ("l0", "l1", "transformed_l1")),
            ("a finite lam >= 0", self.lam, 0 <= self.lam < math.inf),
            ("a finite beta > 0", self.beta, 0 < self.beta < math.inf),
            ("a finite eta > 0", self.eta, 0 < self.eta < math.inf),
            ("a finite a > 0", self.a, 0 < self.a < math.inf),
        )  # fmt: skip
        for needed, given, allowed in ranges:
            if not allowed:
                raise InputError(f"Splitting needs {needed}, got {given!r}")

    @property
    def r(self) -> float:
        """The weight of the proximal map, lambda / beta."""
        return self.lam / self.beta

    def prox(self, w: Tensor) -> Tensor:
        """Return argmin over u of lambda P(u) + beta/2 |w - u|^2, (..., d)."""
        if self.penalty == "transformed_l1":
            return prox.transformed_l1(w, self.r, self.a)
        return prox.l0(w, self.r) if self.penalty == "l0" else prox.l1(w, self.r)

    def in_place(self, shape: tuple[int, ...]) -> thresholds.InPlace:
        """Return the same map for loops: numpy, arrays of one shape."""
        if self.penalty == "transformed_l1":
            return thresholds.transformed(self.r, self.a, shape)
        map_of = thresholds.hard if self.penalty == "l0" else thresholds.soft
        return map_of(self.r, shape)

    def value(self, u: Tensor) -> Tensor:
        """Return P(u), (...), summed over the last dimension."""
        if self.penalty == "l0":
            return (u != 0).double().sum(-1)
        size = u.abs()
        if self.penalty == "l1":
            return size.sum(-1)
        return ((self.a + 1) * size / (self.a + size)).sum(-1)

    def lagrangian(self, net: OneLayer, u: Tensor, w: Tensor) -> Tensor:
        r"""Return (9), f(w) + lambda P(u) + beta/2 \|w - u\|^2, (...)."""
        return net.loss(w) + self.lam * self.value(u) + self.beta / 2 * ((w - u) ** 2).sum(-1)


@final
@dataclass(frozen=True)
class Run:
    """Where a run ended, and what was seen on the way.

    Attributes:
        w: the last w, (..., d).
        u: its prox, (..., d); with ``admm``, that of w + z / beta.
        at: the iterations whose numbers are kept, (n,).
        theta: the angle to w* there, (n, ...).
        lagrangian: (9) there, (n, ...).
        rises: in how many of all iterations (theta, (9)) rose, (2, ...); 0 if nothing was kept.
        largest: the largest rise of each, (2, ...).
    """

    w: Tensor
    u: Tensor
    at: Tensor
    theta: Tensor
    lagrangian: Tensor
    rises: Tensor
    largest: Tensor


def rvscgd(
    net: OneLayer, splitting: Splitting, w: Tensor, iterations: int, every: int | None = None
) -> Run:
    r"""Run Algorithm 1 from w / \|w\|, for each of the weights (..., d).

    .. math:: u = \mathrm{prox}_{(\lambda/\beta) P}(w), \qquad
              w \leftarrow \frac{\hat w}{|\hat w|}, \quad
              \hat w = w - \eta A (w - w^*) - \eta \beta (w - u)

    Args:
        net: its ``star`` broadcasts to w.
        splitting: the parameters.
        w: where to start, float64.
        iterations: how many.
        every: keep theta and the Lagrangian each so many iterations, and compare them with the
            ones before in every iteration; None keeps nothing and is three times as fast.

    Raises:
        DivergenceError: w is not finite.

    >>> net = OneLayer(direction(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)))
    >>> start = torch.tensor([[1.0, 0.0, -0.5, 0.5]], dtype=torch.float64)
    >>> run = rvscgd(net, Splitting(eta=0.02), start, 2000)
    >>> (run.u != 0).tolist()
    [[True, True, False, False]]
    """
    shape = torch.broadcast_shapes(w.shape, net.star.shape)
    flat = direction(w).expand(shape).reshape(-1, shape[-1]).numpy().copy()
    star = net.star.expand(shape).reshape(flat.shape).numpy()
    step = _Step(net, splitting, flat, star)
    watch = None if every is None else _Watch(net, splitting, step, every)
    for t in range(1, iterations + 1):
        step()
        if watch is not None:
            watch.see(t)
        if (t % CHECKED == 0 or t == iterations) and not np.isfinite(flat).all():
            raise DivergenceError(
                f"RVSCGD diverged at iteration {t}: w is not finite; take an eta below "
                f"{splitting.eta:g}, or start elsewhere than opposite to w*"
            )
    step.twin()
    kept = ((), (), ()) if watch is None else tuple(zip(*watch.kept, strict=True))
    counts = np.zeros((2, 2, len(flat))) if watch is None else watch.counts
    theta, lagrangian = (
        torch.from_numpy(np.array(x).reshape(-1, len(flat))).reshape(-1, *shape[:-1])
        for x in kept[1:]
    )
    rises, largest = torch.from_numpy(counts).reshape(2, 2, *shape[:-1])
    w, u = (torch.from_numpy(x).reshape(shape) for x in (flat, step.u))
    return Run(w, u, torch.tensor(kept[0], dtype=torch.int64), theta, lagrangian, rises, largest)


class _Step:
    """One iteration, in place on w (S, d), in buffers that are kept."""

    def __init__(self, net: OneLayer, splitting: Splitting, w: Array, star: Array) -> None:
        eta, beta = splitting.eta, splitting.beta
        self.w, self.star, self.beta, self.eta = w, star, beta, eta
        self.kept = 1 - eta * (net.strength + beta)
        self.drawn = eta * net.strength * star
        self.u, self.work, self.norm = np.empty_like(w), np.empty_like(w), np.empty(len(w))
        self.z = np.zeros_like(w) if splitting.admm else None
        self.prox = splitting.in_place(w.shape)

    def twin(self) -> None:
        """Write prox(w), or prox(w + z / beta), into u."""
        if self.z is None:
            self.prox(self.w, self.u)
        else:
            self.prox(self.w + self.z / self.beta, self.u)

    def __call__(self) -> None:
        w, work = self.w, self.work
        self.twin()
        np.multiply(w, self.kept, out=w)
        np.add(w, self.drawn, out=w)
        np.multiply(self.u, self.eta * self.beta, out=work)
        np.add(w, work, out=w)
        if self.z is not None:
            w -= self.eta * self.z
        np.einsum("sd,sd->s", w, w, out=self.norm)
        np.sqrt(self.norm, out=self.norm)
        np.divide(w, self.norm[:, None], out=w)
        if self.z is not None:
            self.z += self.beta * (w - self.u)


class _Watch:
    """Compares each iteration's angle and Lagrangian with the ones before."""

    def __init__(self, net: OneLayer, splitting: Splitting, step: _Step, every: int) -> None:
        self.splitting, self.step, self.every = splitting, step, every
        self.scale = net.k / (2 * math.pi)
        self.counts = np.zeros((2, 2, len(step.w)))
        step.twin()
        self.before = self._numbers()
        self.kept = [(0, self.before[0], self.before[1])]

    def _numbers(self) -> Array:
        """Return theta and (9), (2, S)."""
        w, u, work, splitting = self.step.w, self.step.u, self.step.work, self.splitting
        np.subtract(w, self.step.star, out=work)
        # w is a unit vector to rounding, and theta below pi/2 wherever its digits matter.
        half = np.sqrt(np.einsum("sd,sd->s", work, work)) / 2
        theta = 2 * np.arcsin(np.minimum(half, 1))
        np.subtract(w, u, out=work)
        gap = np.einsum("sd,sd->s", work, work)
        if splitting.penalty == "l0":
            value = np.count_nonzero(u, axis=1)
        elif splitting.penalty == "l1":
            value = np.abs(u).sum(1)
        else:
            value = splitting.value(torch.from_numpy(u)).numpy()
        return np.stack([theta, self.scale * theta + splitting.lam * value
                         + splitting.beta / 2 * gap])  # fmt: skip

    def see(self, t: int) -> None:
        """Count what rose."""
        now = self._numbers()
        rise = now - self.before
        # Below this, a rise is what rounding does to numbers of this size.
        self.counts[0] += rise > 4e-15 * (1 + now)
        np.maximum(self.counts[1], rise, out=self.counts[1])
        self.before = now
        if t % self.every == 0:
            self.kept.append((t, now[0], now[1]))
