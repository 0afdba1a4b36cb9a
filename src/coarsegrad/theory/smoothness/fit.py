"""(L0, L1) from pairs of a gradient's norm and the smoothness measured there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from coarsegrad.theory.smoothness.curves import Constants, Curve

Floats = npt.NDArray[np.float64]


def least_squares(norms: npt.ArrayLike, smoothness: npt.ArrayLike) -> Constants:
    r"""Return the line of least squares through the pairs.

    .. math:: \min_{L_0, L_1} \sum_k (\hat L_k - L_0 - L_1 |g_k|)^2

    A line through the middle of the points is below half of them, and biased where the smoothness
    is no line in the norm: on ``hyperbolic`` it finds about half of L0. For constants that are to
    be safe, take ``envelope``.

    Args:
        norms: the gradients' norms, (n,), two different ones at least.
        smoothness: the measured smoothness at each, (n,).

    Raises:
        ValueError: other shapes; negative, infinite or NaN numbers; all norms the same.

    >>> least_squares([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    Constants(l0=1.0, l1=2.0)
    """
    g, s = _pairs("least_squares", norms, smoothness)
    spread = g - g.mean()
    if not spread.any():
        raise ValueError(
            f"least_squares needs two different norms, got {g[0]:g} only; measure along a run"
        )
    l1 = float(spread @ s / (spread @ spread))
    return Constants(float(s.mean()) - l1 * float(g.mean()), l1)


def envelope(norms: npt.ArrayLike, smoothness: npt.ArrayLike) -> Constants:
    r"""Return the lowest line above all pairs, exactly.

    .. math:: \min_{L_0, L_1 \geq 0} \frac{1}{n} \sum_k (L_0 + L_1 |g_k|) \quad
              \mathrm{with} \quad L_0 + L_1 |g_k| \geq \hat L_k

    A linear programme of two unknowns: the answer is the edge, over the mean of the norms, of the
    upper hull of the points and the origin, which stands for L0 >= 0. Of several answers it is the
    one with the least L1.

    Args:
        norms: the gradients' norms, (n,).
        smoothness: the measured smoothness at each, (n,).

    Raises:
        ValueError: other shapes; no pairs; negative, infinite or NaN numbers.

    >>> envelope([0.0, 1.0, 2.0], [1.0, 2.0, 5.0])
    Constants(l0=1.0, l1=2.0)
    >>> envelope([0.0, 1.0, 2.0], [5.0, 2.0, 1.0])         # falls: a constant is best
    Constants(l0=5.0, l1=0.0)
    """
    g, s = _pairs("envelope", norms, smoothness)
    hull = _upper_hull(np.append(g, 0.0), np.append(s, 0.0))
    mean = float(g.mean())
    l1 = 0.0
    for (x0, y0), (x1, y1) in pairwise(hull):
        if x0 <= mean < x1:
            l1 = max(0.0, (y1 - y0) / (x1 - x0))
    return Constants(max(0.0, float((s - l1 * g).max())), l1)


def log_correlation(norms: npt.ArrayLike, smoothness: npt.ArrayLike) -> float:
    """Return Pearson's correlation of the logarithms, as the paper's Figure 1 shows the pairs.

    Pairs with a zero are left out.

    Raises:
        ValueError: other shapes; negative, infinite or NaN numbers; fewer than two different
            norms or values are left.

    >>> round(log_correlation([1.0, 10.0, 100.0], [2.0, 20.0, 200.0]), 12)
    1.0
    """
    g, s = _pairs("log_correlation", norms, smoothness)
    kept = (g > 0) & (s > 0)
    x, y = np.log(g[kept]), np.log(s[kept])
    if len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        raise ValueError(
            "log_correlation needs two different norms and values above 0, got "
            f"{len(np.unique(x))} and {len(np.unique(y))}; measure along a run"
        )
    return float(np.corrcoef(x, y)[0, 1])


def smoothness_along(
    curves: Sequence[Curve], before: Sequence[float], after: Sequence[float], points: int = 5
) -> float:
    r"""Return the smoothness along one step, where the gradient is known.

    .. math:: \hat L = \max_{i = 1..n}
              \frac{|\nabla f(x + \delta_i s) - \nabla f(x)|}{\delta_i |s|}, \qquad
              s = x' - x, \quad \delta_i = \frac{i}{n + 1}

    ``train.local_smoothness`` measures the same of a network.

    Args:
        curves: f(x) = f_1(x_1) + ... + f_d(x_d).
        before: x.
        after: x'.
        points: n.

    Raises:
        ValueError: not one coordinate for each curve, no points, or a step of 0.

    >>> from coarsegrad.theory.smoothness import bowl
    >>> round(smoothness_along([bowl(), bowl()], [1.0, 2.0], [0.5, 2.0]), 12)
    1.0
    """
    if not len(curves) == len(before) == len(after):
        raise ValueError(
            f"smoothness_along needs a coordinate for each of {len(curves)} curves, got "
            f"{len(before)} and {len(after)}"
        )
    if points < 1:
        raise ValueError(f"smoothness_along needs 1 or more points, got {points}")
    triples = list(zip(curves, before, after, strict=True))
    length = math.dist(before, after)
    if not length:
        raise ValueError("smoothness_along needs a step, got before equal to after")
    found = 0.0
    for i in range(1, points + 1):
        d = i / (points + 1)
        moved = [curve.slope(x + d * (y - x)) - curve.slope(x) for curve, x, y in triples]
        found = max(found, math.hypot(*moved) / (d * length))
    return found


def _pairs(name: str, norms: npt.ArrayLike, smoothness: npt.ArrayLike) -> tuple[Floats, Floats]:
    g, s = (np.asarray(values, dtype=np.float64) for values in (norms, smoothness))
    if g.ndim != 1 or g.shape != s.shape or not len(g):
        raise ValueError(
            f"{name} needs one norm and one smoothness a point, (n,) each, got shapes {g.shape} "
            f"and {s.shape}"
        )
    bad = ~((g >= 0) & (s >= 0) & np.isfinite(g) & np.isfinite(s))
    if bad.any():
        k = int(bad.argmax())
        raise ValueError(
            f"{name} needs finite numbers of 0 or more, got norm {g[k]} and smoothness {s[k]} at "
            f"point {k}; leave points out that were not measured"
        )
    return g, s


def _upper_hull(x: Floats, y: Floats) -> list[tuple[float, float]]:
    """Return the corners of the upper hull from left to right, one for each x at its ends."""
    hull: list[tuple[float, float]] = []
    for k in np.lexsort((-y, x)):
        point = (float(x[k]), float(y[k]))
        if hull and hull[-1][0] == point[0]:
            continue  # the higher of the same x came first
        while len(hull) > 1 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])
