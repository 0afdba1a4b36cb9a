"""The minimum of a function of one positive number."""

from __future__ import annotations

import math
from collections.abc import Callable

_GOLDEN = (math.sqrt(5) - 1) / 2


def minimum(f: Callable[[float], float], low: float, high: float, scan: int = 200) -> float:
    """Return argmin f on [low, high], 0 < low < high: two scans in equal ratios, golden section.

    The scans find the valley, so f need not have only one, and may jump a little, as an error over
    a batch does; within it f is taken to fall and then to rise.

    >>> round(minimum(lambda x: (x - 2) ** 2, 0.1, 10.0), 6)
    2.0
    """
    a, b = low, high
    for _ in range(2):
        ratio: float = (b / a) ** (1 / scan)
        points = [a * ratio**i for i in range(scan + 1)]
        best = min(range(scan + 1), key=lambda i: f(points[i]))
        a, b = points[max(best - 1, 0)], points[min(best + 1, scan)]
    c, d = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    at_c, at_d = f(c), f(d)
    while b - a > 1e-10 * b:
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - _GOLDEN * (b - a)
            at_c = f(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + _GOLDEN * (b - a)
            at_d = f(d)
    return (a + b) / 2
