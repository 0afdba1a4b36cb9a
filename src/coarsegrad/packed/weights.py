"""Weights as a packed file holds them: floats, bits of -1 and +1, or two planes of bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import PackedFileError
from coarsegrad.packed.bits import pack_bits, unpack_bits
from coarsegrad.packed.ops import Conv, Linear


def pack_ternary(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the planes of the n values -1, 0, +1 of ``levels``: uint8 (2, ceil(n / 8)).

    Row 0 holds 1 for -1, row 1 holds 1 for every value that is not 0.

    >>> pack_ternary(np.array([[-1.0, 0.0, 1.0]]))
    array([[1],
           [5]], dtype=uint8)
    """
    return np.stack([pack_bits(levels), pack_bits(-np.abs(levels))])


def unpack_weights(op: Conv | Linear, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the weights of ``op`` as float32 in its shape, whatever their form.

    >>> op = Linear("a", (1, 3))
    >>> unpack_weights(op, {"a.weight": pack_ternary(np.array([-1.0, 0.0, 1.0]))})
    array([[-1.,  0.,  1.]], dtype=float32)
    """
    stored = tensors[f"{op.name}.weight"]
    if stored.dtype == np.uint8:
        signs, *masks = (unpack_bits(row, math.prod(op.shape)) for row in np.atleast_2d(stored))
        # A mask's bit of 1 reads as -1.
        levels = signs * (masks[0] < 0) if masks else signs
        stored = levels.reshape(op.shape)
    return stored.astype(np.float32, copy=False)


def weight_forms(op: Conv | Linear) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return (dtype, shape) of each form that the op's weights may have."""
    size = math.ceil(math.prod(op.shape) / 8)
    return ("uint8", (size,)), ("uint8", (2, size)), ("float32", op.shape)


def check_weight(array: NDArray[Any], count: int, name: str, place: str) -> None:
    """Raise PackedFileError unless the ``count`` weights, of one of the forms, are well-formed."""
    if array.dtype != np.uint8:
        check_finite(array, name, place)
        return
    for row in np.atleast_2d(array):
        check_spare_bits(row, count, name, place)
    if array.ndim == 2 and (array[0] & ~array[1]).any():
        raise PackedFileError(f"{place}: {name} gives a sign to a weight that its mask makes 0")


def check_finite(array: NDArray[Any], name: str, place: str) -> None:
    """Raise PackedFileError unless every number of ``array`` is finite."""
    if not np.isfinite(array).all():
        raise PackedFileError(f"{place}: {name} holds a non-finite number")


def check_spare_bits(row: NDArray[Any], count: int, name: str, place: str) -> None:
    """Raise PackedFileError unless the bits of ``row`` after the first ``count`` are 0."""
    if count % 8 and row[-1] >> (count % 8):
        raise PackedFileError(f"{place}: the bits of {name} after the last weight are not 0")
