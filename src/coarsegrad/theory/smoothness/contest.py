"""Gradient descent against clipped: on the two functions of the lower bound, and tuned on one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from coarsegrad.errors import DivergenceError
from coarsegrad.theory.smoothness import bounds
from coarsegrad.theory.smoothness.curves import (
    Constants,
    Curve,
    bowl,
    constants_of,
    flat,
    positive,
    steep,
    where,
)
from coarsegrad.theory.smoothness.descent import (
    Rate,
    clipped_rate,
    descend,
    fixed_rate,
    normalised_rate,
)

SHARE = 0.98
"""Of ``steep_limit``, the step that gradient descent takes in the class experiment."""


@final
@dataclass(frozen=True)
class Count:
    """How long a method took, beside what is proved of it.

    Attributes:
        function: ``flat``, ``steep``, or a curve's formula.
        method: ``gd``, ``gd (12)`` with the step of bound (12), ``clipped``, ``normalised``, or
            ``gd tuned`` and ``clipped tuned``.
        m: M.
        iterations: until |grad f| <= eps, or None where there was no end within the limit.
        lower: bound (13), where it speaks of this run, else None.
        upper: bound (9) or (12), where it does, else None.
    """

    function: str
    method: str
    m: float
    iterations: int | None
    lower: float | None = None
    upper: float | None = None

    @property
    def within(self) -> bool:
        """Whether the run ended, between its bounds."""
        n = self.iterations
        return n is not None and (self.lower or 0) <= n <= (self.upper or math.inf)


def class_experiment(
    m: float, eps: float = 0.02, delta: float = 1.0, *, slow: bool = False
) -> Iterator[Count]:
    """Run both methods, each with one setting, on ``flat`` and ``steep`` with L0 = L1 = 1.

    Gradient descent takes 0.98 of the largest step that ``steep`` bears; that is what makes it
    slow on ``flat``. Clipped gradient descent takes the settings of bound (9).

    Args:
        m: the slope at which ``steep`` starts, M >= 1.
        eps: where to stop; 3 eps <= L0 = 1.
        delta: the gap at which ``flat`` starts, above 5 eps / 4.
        slow: also gradient descent with the step of bound (12), which takes 2 (log M + 1) times
            as long.

    Raises:
        ValueError: a number out of range.

    >>> [(c.function, c.method, c.iterations) for c in class_experiment(10.0)][:2]
    [('flat', 'gd', 973), ('flat', 'clipped', 6301)]
    """
    lower = bounds.gd_lower_bound(1.0, m, delta, eps)
    if 3 * eps > 1:
        raise ValueError(f"class_experiment needs 3 eps <= L0 = 1, got eps = {eps!r}")
    both = Constants(1.0, 1.0)
    long, high = flat(eps), steep()
    # Where the gap, or the slope, is as asked.
    starts = {long: where(long.value, delta), high: math.log(m) + 1}
    gaps = {long: delta, high: m - 0.5}
    rates: dict[str, Rate] = {
        "gd": fixed_rate(SHARE * bounds.steep_limit(1.0, m)),
        "clipped": clipped_rate(*bounds.clipping(both)),
    }
    if slow:
        rates["gd (12)"] = fixed_rate(bounds.gd_step(both, m))
    for curve in (long, high):
        for method, rate in rates.items():
            upper = {
                "gd": None, "clipped": bounds.clipped_bound(both, gaps[curve], eps),
                "gd (12)": bounds.gd_bound(both, m, gaps[curve], eps),
            }[method]  # fmt: skip
            most = math.ceil(upper or 20 * lower + 1000)
            found = descend([curve], [starts[curve]], rate, eps, most).iterations
            proved = lower if method == "gd" and curve is long else None
            yield Count(curve.name, method, m, found, proved, upper)


@final
@dataclass(frozen=True)
class Plane:
    """f(x, y) = f_1(x) + y^2 / 2, started where y = 1 and the largest slope below f(x_0) is M.

    The second coordinate keeps a lucky step from ending the run at once.

    Attributes:
        curve: f_1, which rises with its slope for x > 0.
        m: M, sup |grad f| over the points with f <= f(x_0), equation (5).

    Raises:
        ValueError: M is so small that f cannot be that of y = 1.

    >>> from coarsegrad.theory.smoothness import hyperbolic
    >>> plane = Plane(hyperbolic(), 10.0)
    >>> [round(x, 4) for x in plane.start], plane.constants
    ([2.9469, 1.0], Constants(l0=1.0, l1=1.0))
    """

    curve: Curve
    m: float

    def __post_init__(self) -> None:
        positive("Plane", m=self.m)
        if self.gap <= 0.5:
            raise ValueError(f"Plane needs an m at which f is above 1/2, got {self.m!r}")

    @property
    def curves(self) -> tuple[Curve, Curve]:
        """f_1 and y^2 / 2."""
        return self.curve, bowl()

    @property
    def gap(self) -> float:
        """Delta = f(x_0), since f* = 0."""
        return self.curve.value(where(self.curve.slope, self.m))

    @property
    def start(self) -> tuple[float, float]:
        """x_0."""
        return where(self.curve.value, self.gap - 0.5), 1.0

    @property
    def constants(self) -> Constants:
        """L0 and L1."""
        return constants_of(self.curves)


def proved_steps(plane: Plane, eps: float = 0.01, *, gd: bool = True) -> Iterator[Count]:
    """Run clipped, normalised and plain gradient descent with the steps of their proofs.

    Args:
        plane: the function and its start.
        eps: where to stop.
        gd: plain gradient descent too, which takes some ten times M iterations.

    >>> from coarsegrad.theory.smoothness import hyperbolic
    >>> all(count.within for count in proved_steps(Plane(hyperbolic(), 10.0)))
    True
    """
    constants = plane.constants
    eta, gamma = bounds.clipping(constants)
    most = bounds.clipped_bound(constants, plane.gap, eps)
    slow = bounds.gd_bound(constants, plane.m, plane.gap, eps)
    # A normalised step is at least half of a clipped one, and no longer.
    runs = [("clipped", clipped_rate(eta, gamma), most),
            ("normalised", normalised_rate(gamma * eta, gamma), 2 * most)]  # fmt: skip
    if gd:
        runs.append(("gd (12)", fixed_rate(bounds.gd_step(constants, plane.m)), slow))
    for method, rate, upper in runs:
        found = descend(plane.curves, plane.start, rate, eps, math.ceil(upper)).iterations
        yield Count(plane.curve.name, method, plane.m, found, None, upper)


def tuned_steps(plane: Plane, eps: float = 0.01) -> Iterator[Count]:
    """Run plain and clipped gradient descent with the best steps of a grid each.

    60 fixed steps, from that of bound (12) up to 2, with which y alone diverges. Clipped: the steps
    of bound (9), and 12 rates eta_c up to 2 with each of 10 lengths gamma eta_c from 0.03 to 3.

    >>> from coarsegrad.theory.smoothness import hyperbolic
    >>> [count.method for count in tuned_steps(Plane(hyperbolic(), 10.0))]
    ['gd tuned', 'clipped tuned']
    """
    low = bounds.gd_step(plane.constants, plane.m)
    grids: dict[str, Sequence[Rate]] = {
        "gd tuned": [fixed_rate(h) for h in reversed(_spread(low, 1.98, 60))],
        "clipped tuned": [
            # First, for the limit it sets: too long steps go to and fro for ever.
            clipped_rate(*bounds.clipping(plane.constants)),
            *(
                clipped_rate(eta, length / eta)
                for eta in reversed(_spread(0.05, 1.9, 12))
                for length in reversed(_spread(0.03, 3.0, 10))
            ),
        ],
    }
    limit = math.ceil(bounds.gd_bound(plane.constants, plane.m, plane.gap, eps))
    for method, rates in grids.items():
        best: int | None = None
        for rate in rates:
            most = limit if best is None else best - 1
            try:
                found = descend(plane.curves, plane.start, rate, eps, most).iterations
            except DivergenceError:
                continue  # a step of the grid that is too long is no finding
            best = best if found is None else found
        yield Count(plane.curve.name, method, plane.m, best)


def growth_exponent(counts: Sequence[Count]) -> float:
    """Return the slope of log iterations against log M, by least squares.

    Raises:
        ValueError: fewer than two different M, or a run without an end.

    >>> round(growth_exponent([Count("f", "gd", m, int(3 * m)) for m in (10, 100, 1000)]), 12)
    1.0
    """
    done = [(math.log(c.m), math.log(c.iterations)) for c in counts if c.iterations]
    if len(done) < len(counts) or len({x for x, _ in done}) < 2:
        raise ValueError(
            f"growth_exponent needs runs that ended, at two different M, got {len(done)} ended of "
            f"{len(counts)} at {len({x for x, _ in done})} different M"
        )
    x, y = sum(a for a, _ in done) / len(done), sum(b for _, b in done) / len(done)
    return sum((a - x) * (b - y) for a, b in done) / sum((a - x) ** 2 for a, _ in done)


def _spread(low: float, high: float, count: int) -> list[float]:
    """Return numbers from low to high, evenly on a logarithmic scale."""
    return [low * (high / low) ** (i / (count - 1)) for i in range(count)]
