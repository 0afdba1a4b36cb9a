"""The numpy executor: what each op of a packed file computes, to be read beside ``spec.md``.

Values are arrays with a batch dimension: float32 for floats and sums, int8 of -1 and +1 for bits,
uint8 of 0, 1, .. for cells of 2 to 8 bits. Exact sums stay exact in float32, since they and all
their parts are integers up to 2^24.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Op,
    Relu,
    Sign,
    Threshold,
    unpack_bits,
    unpack_weights,
)
from coarsegrad.packed.program import Tensors

Array = NDArray[Any]


def apply(op: Op, x: Array, tensors: Tensors) -> Array:
    """Return what ``op`` makes of the value ``x``, shape (N, ...)."""
    match op:
        case Conv():
            return conv(op, _operand(op, x), unpack_weights(op, tensors))
        case Linear():
            return linear(_operand(op, x), unpack_weights(op, tensors))
        case Threshold():
            return threshold(op, x, tensors)
        case Levels():
            # Bits of -1 and +1 are the integers 0 and 1.
            return tensors[f"{op.name}.levels"][x if x.dtype == np.uint8 else (x > 0).astype(int)]
        case Affine():
            a, b = _per_channel(tensors[f"{op.name}.affine"], x)
            y: Array = a * x.astype(np.float32) + b
            return y
        case Relu():
            return np.where(x > 0, x, np.float32(0))
        case MaxPool():
            return maxpool(op, x)
        case AvgPool():
            return avgpool(op, x)
        case Flatten():
            return x.reshape(len(x), math.prod(x.shape[1:]))
        case Sign():
            return signs(~(x < 0))


def signs(positive: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return +1 where ``positive``, else -1."""
    return np.where(positive, np.int8(1), np.int8(-1))


def _operand(op: Conv | Linear, x: Array) -> NDArray[np.float32]:
    """Return x as the op's sums see it: bits of -1 as 0 where ``low`` says so."""
    is_bits_of_zero = op.low == 0 and x.dtype == np.int8
    return (x > 0 if is_bits_of_zero else x).astype(np.float32, copy=False)


def linear(x: NDArray[np.float32], weight: NDArray[np.float32]) -> Array:
    """Return the sums over features, shape (N, O)."""
    sums: Array = np.matmul(x, weight.T)
    return sums


def conv(op: Conv, x: NDArray[np.float32], weight: NDArray[np.float32]) -> Array:
    """Return the sums over windows, shape (N, O, H', W')."""
    top, left, bottom, right = op.padding
    edges = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, edges, constant_values=op.pad)
    out, per_group, *kernel = op.shape
    windows = _windows(x, (kernel[0], kernel[1]), op.stride, op.dilation)
    n, _, height, width = windows.shape[:4]
    windows = windows.reshape(n, op.groups, per_group, height, width, kernel[0], kernel[1])
    fan_in = per_group * kernel[0] * kernel[1]
    columns = windows.transpose(0, 1, 2, 5, 6, 3, 4)
    columns = columns.reshape(n, op.groups, fan_in, height * width)
    rows = weight.reshape(op.groups, out // op.groups, fan_in)
    sums: Array = np.matmul(rows, columns)
    return sums.reshape(n, out, height, width)


def threshold(op: Threshold, x: Array, tensors: Tensors) -> NDArray[np.int8] | NDArray[np.uint8]:
    """Return +1 where x >= t (x <= t in flipped channels), else -1; of more bits how many t."""
    rows = np.atleast_2d(tensors[f"{op.name}.threshold"])
    flip, flipped = tensors.get(f"{op.name}.flip"), None
    if flip is not None:
        (flipped,) = _per_channel(unpack_bits(flip, x.shape[1])[None] < 0, x)
    level = np.zeros(x.shape, np.uint8)
    for t in _per_channel(rows, x):
        # float32 against int32 is compared in float64, where both are what they are.
        level += x >= t if flipped is None else np.where(flipped, x <= t, x >= t)
    return signs(level > 0) if op.bits == 1 else level


def maxpool(op: MaxPool, x: Array) -> Array:
    """Return the largest of each window; padded cells never win."""
    (top, left) = op.padding
    lowest = {"int8": np.int8(-1), "uint8": np.uint8(0)}.get(str(x.dtype), np.float32(-np.inf))
    x = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=lowest)
    largest: Array = _windows(x, op.size, op.step, op.dilation).max((-2, -1))
    return largest


def avgpool(op: AvgPool, x: Array) -> NDArray[np.float32]:
    """Return the mean of each window, its cells added row after row; padded cells are zeros."""
    (top, left), (height, width) = op.padding, op.size
    x = np.pad(x.astype(np.float32), ((0, 0), (0, 0), (top, top), (left, left)))
    windows = _windows(x, op.size, op.step, op.dilation)
    total = np.zeros(windows.shape[:4], np.float32)
    for row, column in np.ndindex(height, width):
        total += windows[..., row, column]
    return total / np.float32(height * width)


def _windows(
    x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Array:
    """Return a view (N, C, H', W', kh, kw) of the windows of x."""
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = sliding_window_view(x, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _per_channel(rows: Array, x: Array) -> Array:
    """Shape each row of numbers per channel so that it broadcasts over (N, C, ...)."""
    return rows.reshape(len(rows), 1, -1, *(1,) * (x.ndim - 2))
