"""What a rule needs of numbers: Python floats for one long run, arrays for many runs at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Numbers(NamedTuple):
    """The operations that floats and arrays spell differently.

    Attributes:
        sqrt: the root.
        maximum: the larger of two.
        minimum: the smaller of two.
        where: where(condition, a, b).
        every: whether a condition holds for all elements.
        some: whether it holds for any.
    """

    sqrt: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    where: Callable[[Any, Any, Any], Any]
    every: Callable[[Any], bool]
    some: Callable[[Any], bool]


def _choose(condition: bool, a: float, b: float) -> float:
    return a if condition else b


FLOATS = Numbers(math.sqrt, max, min, _choose, bool, bool)
"""One run: a step costs about a microsecond, where numpy's scalars take ten times that."""

ARRAYS = Numbers(np.sqrt, np.maximum, np.minimum, np.where, np.all, np.any)
"""Runs side by side, as seeds and step sizes: any number of elements for some 20 microseconds."""


def numbers_for(*values: Any) -> Numbers:
    """Return ``ARRAYS`` if any value is an array, else ``FLOATS``.

    >>> numbers_for(1.0, 2.0) is FLOATS, numbers_for(1.0, np.ones(3)) is ARRAYS
    (True, True)
    """
    return ARRAYS if any(isinstance(value, np.ndarray) for value in values) else FLOATS
