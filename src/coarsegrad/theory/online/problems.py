r"""The online problems of the counterexamples: sequences of losses on F = [-1, 1].

``Problem`` is what a game needs. Real-valued problems have the point x = w; binary ones
x = alpha sign(w), with the gradient passed straight through to the latent w.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Problem(Protocol):
    """A sequence of losses f_t; weights are floats, or arrays whose last axis is the coordinate."""

    def point(self, w: Any) -> Any:
        """Return the x = w~ at which the losses are taken."""

    def gradient(self, t: int, x: Any) -> Any:
        """Return the gradient of f_t at x, or what an optimizer gets in its place."""

    def regret(self, t: int, x: Any) -> Any:
        """Return f_t(x) - f_t(x*)."""


@final
@dataclass(frozen=True)
class Toy:
    """Linear losses f_t(x) = a_t x with a period, and the comparator -1 (binary: -alpha).

    Args:
        title: what it is, in words.
        slopes: a_1, ..., a_C.
        betas: (beta1, beta2) for which Adam fails on it.
        binary: alpha of x = alpha sign(w), or None for x = w.
        edge: the loss at x = -1 for every t, as Theorem 1 prints it, or None. The gradient there
            is the slope beside it.

    >>> toy = reddi1()
    >>> [toy.gradient(t, 1.0) for t in (1, 2, 3, 4)], round(toy.gap, 4)
    ([4.0, -1.0, -1.0, 4.0], 1.3333)
    """

    title: str
    slopes: tuple[float, ...]
    betas: tuple[float, float]
    binary: float | None = None
    edge: float | None = None

    @property
    def best(self) -> float:
        """The comparator x*."""
        return -1.0 if self.binary is None else -self.binary

    @property
    def gap(self) -> float:
        """The average regret of staying at the other end of F."""
        drift = sum(self.slopes) / len(self.slopes)
        return drift * -self.best - (drift * self.best if self.edge is None else self.edge)

    def loss(self, t: int, x: float) -> float:
        """Return f_t(x)."""
        if self.edge is not None and x == -1:
            return self.edge
        return self.slopes[(t - 1) % len(self.slopes)] * x

    def point(self, w: Any) -> Any:
        """Return w, or alpha sign(w) with sign(0) = +1."""
        if self.binary is None:
            return w
        if isinstance(w, np.ndarray):
            return np.where(w >= 0, self.binary, -self.binary)
        return self.binary if w >= 0 else -self.binary

    def gradient(self, t: int, x: Any) -> float:
        """Return a_t."""
        return self.slopes[(t - 1) % len(self.slopes)]

    def regret(self, t: int, x: Any) -> Any:
        """Return f_t(x) - f_t(x*)."""
        if self.edge is not None:
            return self.loss(t, x) - self.edge
        return self.slopes[(t - 1) % len(self.slopes)] * (x - self.best)


def reddi1() -> Toy:
    """Return Reddi et al.'s Theorem 1: 4x if t mod 3 = 1, else -x.

    >>> reddi1().betas[0]
    0.0
    """
    return Toy("Reddi 1: 4w, -w, -w", (4.0, -1.0, -1.0), (0.0, 1 / 17))


def reddi2(C: int = 10, *, binary: float | None = None) -> Toy:
    """Return Reddi et al.'s Theorem 2: C x if t mod C = 1, else -x, with beta1 = beta2 = 0.3.

    The paper's Theorem 2 is this sequence; ``binary=0.5`` is its form on x = alpha sign(w).

    Raises:
        ValueError: (beta1, beta2, C) fails one of Reddi's three conditions.

    >>> round(reddi2().gap, 4), round(reddi2(binary=0.5).gap, 4)
    (0.2, 0.1)
    """
    beta1 = beta2 = 0.3
    ratio = beta1 / math.sqrt(beta2)
    met = (
        C >= 3
        and (1 - beta1) * beta1 ** (C - 1) * C <= 1 - beta1 ** (C - 1)
        and beta2 ** ((C - 2) / 2) * C * C <= 1
        and 3 * (1 - beta1) / (2 * math.sqrt(1 - beta2)) * (1 + ratio * (1 - ratio ** (C - 1))
        / (1 - ratio)) + beta1 ** (C / 2 - 1) / (1 - beta1) < C / 3
    )  # fmt: skip
    if not met:
        raise ValueError(
            f"reddi2 needs a C for which Adam provably fails with betas (0.3, 0.3), got {C}; "
            "10 is the smallest"
        )
    kind = "" if binary is None else f", binary, alpha = {binary:g}"
    return Toy(f"Reddi 2: {C}w, {C - 1} times -w{kind}", (float(C), *(-1.0,) * (C - 1)),
               (beta1, beta2), binary)  # fmt: skip


def printed1(C: int = 50, ratio: float = 1.0) -> Toy:
    """Return Theorem 1 as printed: -1 at w = -1; else w, -ratio w, then C - 2 times 0.

    It is not convex: in step 2 the middle of -1 and 1 has the loss 0, the ends have -1. ``ratio``
    is alpha_{Ck+2} / alpha_{Ck+1}, left open there.

    >>> toy = printed1()
    >>> toy.loss(2, 0.0) > (toy.loss(2, -1.0) + toy.loss(2, 1.0)) / 2
    True
    """
    slopes = (1.0, -ratio, *(0.0,) * (C - 2))
    return Toy(f"Theorem 1 as printed, a2 = {ratio:g} a1", slopes, (0.0, 0.9), None, -1.0)


def repaired1(C: int = 50) -> Toy:
    """Return Theorem 1 with AdaBound's signs, linear: -w, 2w, then C - 2 times 0; beta2 = 0.9.

    Raises:
        ValueError: C misses 5 beta2^(C-2) <= (1 - beta2) / (4 - beta2).

    >>> round(repaired1().gap, 4)
    0.04
    """
    beta2 = 0.9
    if C < 3 or 5 * beta2 ** (C - 2) > (1 - beta2) / (4 - beta2):
        raise ValueError(
            f"repaired1 needs C with 5 beta2^(C-2) <= (1 - beta2) / (4 - beta2), got {C}; "
            "50 is enough"
        )
    return Toy("Theorem 1 repaired: -w, 2w, 48 times 0" if C == 50 else f"repaired, C = {C}",
               (-1.0, 2.0, *(0.0,) * (C - 2)), (0.0, beta2))  # fmt: skip


TOYS: dict[str, Callable[[], Toy]] = {
    "reddi1": reddi1,
    "reddi2": reddi2,
    "repaired1": repaired1,
    "binary": lambda: reddi2(binary=0.5),
}
"""The four on which Adam provably ends at the worst point; the first three are real-valued."""


@final
@dataclass(frozen=True)
class Quadratic:
    r"""f(x) = |x - target|^2 / 2 with x = mean(abs(w)) sign(w): the example against Corollary 4.

    Two coordinates that want different magnitudes share one alpha, so that the regret against the
    best real x grows like T whatever the optimizer does.

    >>> Quadratic().point(np.array([0.6, -0.2])).tolist()
    [0.4, -0.4]
    """

    target: tuple[float, ...] = (0.9, 0.1)

    def point(self, w: Floats) -> Floats:
        """Return mean(abs(w)) sign(w), with sign(0) = +1."""
        return np.asarray(np.where(w >= 0, 1.0, -1.0) * np.abs(w).mean(-1, keepdims=True))

    def gradient(self, t: int, x: Floats) -> Floats:
        """Return x - target."""
        return np.asarray(x - np.asarray(self.target))

    def regret(self, t: int, x: Floats) -> Any:
        """Return f(x), since f(target) = 0."""
        return ((x - np.asarray(self.target)) ** 2).sum(-1) / 2
