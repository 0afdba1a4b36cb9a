"""Weights as a packed file holds them: floats, bits of -1 and +1, two planes, or binary digits."""

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


def pack_digits(levels: NDArray[Any], bits: int, *, odd: bool = False) -> NDArray[np.uint8]:
    """Return the binary digits of n integers: uint8 (bits, ceil(n / 8)), row p the digit 2^p.

    Two's complement of w, or of (w - 1) / 2 with ``odd``; w in +-(2^(bits - 1) - 1), or odd
    numbers in +-(2^bits - 1).

    >>> pack_digits(np.array([[-3, -1, 0, 2]]), 3)
    array([[ 3],
           [10],
           [ 3]], dtype=uint8)
    """
    values = np.asarray(levels).astype(np.int16).reshape(-1)
    values = (values - 1) >> 1 if odd else values
    planes = [np.packbits(values >> p & 1, bitorder="little") for p in range(bits)]
    return np.stack(planes)


def unpack_weights(op: Conv | Linear, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return the weights of ``op`` as float32 in its shape, whatever their form.

    >>> op = Linear("a", (1, 3))
    >>> unpack_weights(op, {"a.weight": pack_ternary(np.array([-1.0, 0.0, 1.0]))})
    array([[-1.,  0.,  1.]], dtype=float32)
    """
    stored = tensors[f"{op.name}.weight"]
    count = math.prod(op.shape)
    if op.bits is not None:
        stored = _integers(stored, count, op.odd).reshape(op.shape)
    elif stored.dtype == np.uint8:
        signs, *masks = (unpack_bits(row, count) for row in np.atleast_2d(stored))
        # A mask's bit of 1 reads as -1.
        levels = signs * (masks[0] < 0) if masks else signs
        stored = levels.reshape(op.shape)
    return stored.astype(np.float32, copy=False)


def largest_weight(op: Conv | Linear) -> int:
    """Return the largest weight that the op's packed form can hold."""
    if op.bits is None:
        return 1
    return (1 << op.bits) - 1 if op.odd else (1 << (op.bits - 1)) - 1


def largest_sum(op: Conv | Linear, tensors: Mapping[str, NDArray[Any]], most: int) -> int:
    """Return the most that a sum of integers in [-most, most] reaches, over all output channels.

    The weights are packed ones.

    >>> op = Linear("a", (1, 3))
    >>> largest_sum(op, {"a.weight": pack_ternary(np.array([-1.0, 0.0, 1.0]))}, 3)
    6
    """
    if op.bits is None and tensors[f"{op.name}.weight"].ndim == 1:
        return math.prod(op.shape[1:]) * most
    sizes = np.abs(unpack_weights(op, tensors)).reshape(op.shape[0], -1)
    return int(sizes.sum(1, dtype=np.float64).max()) * most


def weight_forms(op: Conv | Linear) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return (dtype, shape) of each form that the op's weights may have."""
    size = math.ceil(math.prod(op.shape) / 8)
    if op.bits is not None:
        return (("uint8", (op.bits, size)),)
    return ("uint8", (size,)), ("uint8", (2, size)), ("float32", op.shape)


def check_weight(op: Conv | Linear, array: NDArray[Any], place: str) -> None:
    """Raise PackedFileError unless the op's weights, of one of the forms, are well-formed."""
    name, count = f"{op.name}.weight", math.prod(op.shape)
    if array.dtype != np.uint8:
        check_finite(array, name, place)
        return
    for row in np.atleast_2d(array):
        check_spare_bits(row, count, name, place)
    if op.bits is not None:
        if not op.odd and (array[-1] & ~np.bitwise_or.reduce(array[:-1])).any():
            least = 1 - 2 ** (op.bits - 1)
            raise PackedFileError(
                f"{place}: {name} holds a weight of {least - 1}; weights of {op.bits} bits go "
                f"from {least} to {-least}"
            )
    elif array.ndim == 2 and (array[0] & ~array[1]).any():
        raise PackedFileError(f"{place}: {name} gives a sign to a weight that its mask makes 0")


def check_finite(array: NDArray[Any], name: str, place: str) -> None:
    """Raise PackedFileError unless every number of ``array`` is finite."""
    if not np.isfinite(array).all():
        raise PackedFileError(f"{place}: {name} holds a non-finite number")


def check_spare_bits(row: NDArray[Any], count: int, name: str, place: str) -> None:
    """Raise PackedFileError unless the bits of ``row`` after the first ``count`` are 0."""
    if count % 8 and row[-1] >> (count % 8):
        raise PackedFileError(f"{place}: the bits of {name} after the last weight are not 0")


def _integers(digits: NDArray[np.uint8], count: int, odd: bool) -> NDArray[np.int16]:
    """Return the integers of rows of binary digits, the last of them the negative one."""
    values = np.zeros(count, np.int16)
    for p, row in enumerate(digits):
        worth = np.int16(-(1 << p) if p == len(digits) - 1 else 1 << p)
        values += worth * np.unpackbits(row, count=count, bitorder="little")
    return 2 * values + np.int16(1) if odd else values
