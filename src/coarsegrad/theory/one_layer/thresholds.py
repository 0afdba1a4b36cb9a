"""The proximal maps of ``coarsegrad.prox``, in numpy and in place: for loops of 1e5 iterations.

A call of torch on a thousand numbers is mostly overhead; these take a tenth of the time and are
tested to give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
InPlace = Callable[[Array, Array], None]
"""x and u: writes prox(x) into u and leaves x as it is."""


def hard(r: float, shape: tuple[int, ...]) -> InPlace:
    """Return the hard threshold of weight r for arrays of a shape.

    >>> u = np.empty(3)
    >>> hard(0.5, (3,))(np.array([-2.0, 1.0, 1.5]), u)
    >>> u.tolist()
    [-2.0, 0.0, 1.5]
    """
    threshold, size, above = math.sqrt(2 * r), np.empty(shape), np.empty(shape, dtype=bool)

    def apply(x: Array, u: Array) -> None:
        np.abs(x, out=size)
        np.greater(size, threshold, out=above)
        np.multiply(x, above, out=u)

    return apply


def soft(r: float, shape: tuple[int, ...]) -> InPlace:
    """Return the soft threshold of weight r for arrays of a shape.

    >>> u = np.empty(3)
    >>> soft(0.5, (3,))(np.array([-2.0, 0.5, 1.5]), u)
    >>> u.tolist()
    [-1.5, 0.0, 1.0]
    """

    def apply(x: Array, u: Array) -> None:
        np.minimum(x, r, out=u)
        np.maximum(u, -r, out=u)
        np.subtract(x, u, out=u)

    return apply


def transformed(r: float, a: float, shape: tuple[int, ...]) -> InPlace:
    """Return the map of the transformed l1 penalty, for arrays of a shape.

    >>> u = np.empty(3)
    >>> transformed(0.25, 1.0, (3,))(np.array([-2.0, 0.5, 1.0]), u)
    >>> u.round(4).tolist()
    [-1.9422, 0.0, 0.8546]
    """
    below = r <= a * a / (2 * (a + 1))
    threshold = r * ((a + 1) / a) if below else math.sqrt(2 * (a + 1) * r) - a / 2
    factor = 6.75 * (a + 1) / a * r * a * a
    shifted, sine, above = np.empty(shape), np.empty(shape), np.empty(shape, dtype=bool)

    def apply(x: Array, u: Array) -> None:
        np.abs(x, out=u)
        np.greater(u, threshold, out=above)
        np.add(u, a, out=shifted)
        np.multiply(shifted, shifted, out=sine)
        np.multiply(sine, shifted, out=sine)
        np.divide(factor, sine, out=sine)
        np.minimum(sine, 1, out=sine)
        np.sqrt(sine, out=sine)
        np.arcsin(sine, out=sine)
        np.divide(sine, 3, out=sine)
        np.sin(sine, out=sine)
        np.multiply(sine, sine, out=sine)
        np.multiply(sine, shifted, out=sine)
        np.multiply(sine, 4 / 3, out=sine)
        np.subtract(u, sine, out=u)
        np.copysign(u, x, out=u)
        np.multiply(u, above, out=u)

    return apply
