"""Gradient descent, clipped and normalised: one loop, in which the step is a function of |grad|."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from coarsegrad.errors import DivergenceError
from coarsegrad.theory.smoothness.curves import Curve, positive

Rate = Callable[[float], float]
"""h as a function of the gradient's norm: x moves by -h grad f(x)."""


@final
@dataclass(frozen=True)
class Descent:
    """A run of ``descend``.

    Attributes:
        iterations: the first t with |grad f(x_t)| <= eps, or None where there was none.
        x: where it ended.
        norm: |grad f| there.
    """

    iterations: int | None
    x: tuple[float, ...]
    norm: float


def fixed_rate(h: float) -> Rate:
    """Return plain gradient descent's rate h, equation (11).

    >>> fixed_rate(0.5)(100.0)
    0.5
    """
    positive("fixed_rate", h=h)
    return lambda norm: h


def clipped_rate(eta: float, gamma: float) -> Rate:
    r"""Return clipped gradient descent's rate, equation (7): no step is longer than gamma eta.

    .. math:: h_c = \min\left(\eta_c, \frac{\gamma \eta_c}{|\nabla f(x)|}\right)

    >>> h = clipped_rate(eta=0.5, gamma=2.0)
    >>> h(1.0), h(10.0)
    (0.5, 0.1)
    """
    positive("clipped_rate", eta=eta, gamma=gamma)
    return lambda norm: eta if norm <= gamma else gamma * eta / norm


def normalised_rate(eta: float, beta: float) -> Rate:
    r"""Return normalised gradient descent's rate, equation (8).

    .. math:: h_n = \frac{\eta_n}{|\nabla f(x)| + \beta}

    With eta_n = gamma eta_c and beta = gamma it lies in [h_c / 2, h_c], h_c being that of
    ``clipped_rate``.

    >>> normalised_rate(eta=1.0, beta=2.0)(2.0)
    0.25
    """
    positive("normalised_rate", eta=eta, beta=beta)
    return lambda norm: eta / (norm + beta)


def descend(
    curves: Sequence[Curve], start: Sequence[float], rate: Rate, eps: float, most: int,
    watch: Callable[[int, tuple[float, ...], float], None] | None = None,
) -> Descent:  # fmt: skip
    """Iterate x <- x - h grad f(x) on f(x) = f_1(x_1) + ... + f_d(x_d) until |grad f| <= eps.

    Args:
        curves: one a coordinate.
        start: x_0.
        rate: h as a function of |grad f(x)|: ``fixed_rate``, ``clipped_rate``, ``normalised_rate``.
        eps: where to stop.
        most: the largest number of iterations.
        watch: called as watch(t, x_t, |grad f(x_t)|) before each step; it may raise to stop.

    Raises:
        ValueError: not one start for each curve, ``eps`` is not above 0, or ``most`` is negative.
        DivergenceError: x or the gradient left the finite numbers.

    >>> from coarsegrad.theory.smoothness import hyperbolic
    >>> descend([hyperbolic()], [3.0], fixed_rate(0.1), eps=0.01, most=100).iterations
    49
    """
    if len(start) != len(curves) or not curves:
        raise ValueError(
            f"descend needs a start for each curve, got {len(start)} for {len(curves)}"
        )
    if most < 0:
        raise ValueError(f"descend needs most >= 0 iterations, got {most}")
    positive("descend", eps=eps)
    slopes_of, x, norm = [curve.slope for curve in curves], list(start), math.inf
    for t in range(most + 1):
        try:
            slopes = [slope(at) for slope, at in zip(slopes_of, x, strict=True)]
        except OverflowError:  # what math.exp and ** say for infinity
            slopes = [math.inf]
        norm = math.hypot(*slopes)
        if norm <= eps:
            return Descent(t, tuple(x), norm)
        if not norm < math.inf:
            raise DivergenceError(
                f"descend diverged at iteration {t}: x is {tuple(x)} and the gradient's norm "
                f"{norm}; lower the rate, or clip"
            )
        if t == most:
            break
        if watch is not None:
            watch(t, tuple(x), norm)
        h = rate(norm)
        x = [at - h * slope for at, slope in zip(x, slopes, strict=True)]
    return Descent(None, tuple(x), norm)
