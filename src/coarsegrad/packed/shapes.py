"""The shapes that windows leave, and how much memory a value may ask for."""

from __future__ import annotations

import math

from coarsegrad.errors import PackedFileError
from coarsegrad.packed.ops import AvgPool, Conv, MaxPool

MAX_ELEMENTS = 1 << 28

Shape = tuple[int, ...]


def check_size(place: str, shape: Shape) -> None:
    """Raise PackedFileError for a value of more than 2^28 elements a sample."""
    if math.prod(shape) > MAX_ELEMENTS:
        raise PackedFileError(
            f"{place} makes a value of shape {list(shape)}; at most {MAX_ELEMENTS} elements "
            "per sample are allowed"
        )


def conv_shape(op: Conv, shape: Shape, got: str, place: str) -> tuple[int, int, int]:
    """Return the shape of a convolution's sums, or raise PackedFileError for what does not fit.

    ``got`` describes the value before it, for the message.
    """
    out, per_group, *kernel = op.shape
    top, left, bottom, right = op.padding
    if len(shape) != 3 or shape[0] != per_group * op.groups or out % op.groups:
        raise PackedFileError(
            f"{place} of shape {list(op.shape)} with groups {op.groups} needs "
            f"[{per_group * op.groups}, H, W] and output channels in {op.groups} equal groups, "
            f"got {got}"
        )
    reach = [d * (k - 1) for d, k in zip(op.dilation, kernel, strict=True)]
    if max(top, bottom) > reach[0] or max(left, right) > reach[1]:
        raise PackedFileError(
            f"{place} pads by {list(op.padding)}; at most dilation * (kernel - 1) = {reach}"
        )
    height = _steps(shape[1] + top + bottom, reach[0], op.stride[0], place)
    width = _steps(shape[2] + left + right, reach[1], op.stride[1], place)
    check_size(place, (shape[0], shape[1] + top + bottom, shape[2] + left + right))
    # What an executor that gathers windows holds at once.
    gathered = (shape[0] * kernel[0] * kernel[1], height, width)
    check_size(f"{place}, its windows gathered,", gathered)
    return out, height, width


def pool_shape(op: MaxPool | AvgPool, shape: Shape, place: str) -> tuple[int, int, int]:
    """Return the shape after a pool on a shape of three dimensions, or raise PackedFileError."""
    if any(2 * p > k for p, k in zip(op.padding, op.size, strict=True)):
        raise PackedFileError(
            f"{place} pads by {list(op.padding)}; at most half of its size {list(op.size)}"
        )
    channels, *sizes = shape
    padded = (n + 2 * p for n, p in zip(sizes, op.padding, strict=True))
    check_size(place, (channels, *padded))
    height, width = (
        _steps(n + 2 * p, d * (k - 1), s, place)
        for n, p, d, k, s in zip(sizes, op.padding, op.dilation, op.size, op.step, strict=True)
    )
    return channels, height, width


def _steps(size: int, reach: int, stride: int, place: str) -> int:
    if size <= reach:
        raise PackedFileError(f"{place} has a window of {reach + 1} cells on {size}")
    return (size - reach - 1) // stride + 1
