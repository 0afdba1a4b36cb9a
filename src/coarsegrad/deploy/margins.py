"""How far a packed program's floats may be from torch's, which round in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Program,
    Relu,
    Sign,
    Threshold,
    unpack_weights,
)

# Two float32 sums of the same products differ by at most a few roundings of their magnitude.
MARGIN = 8 * 2.0**-24

Terms = Mapping[str, NDArray[np.float64]]


def cancelled(program: Program, start: int, stop: int, terms: Terms) -> float:
    """Return the largest number that a result near 0 of ops ``start`` to ``stop - 1`` cancels from.

    ``terms`` are the sizes of what an affine's shift is made of, as ``Lowering`` has them: torch's
    batch norm computes b = beta - mean * a, and what follows scales the rounding of both.
    """
    largest = 0.0
    for op in program.ops[start:stop]:
        if isinstance(op, Affine):
            a, b = np.abs(program.tensors[f"{op.name}.affine"]).astype(np.float64)
            sizes = float(np.maximum(b, terms.get(op.name, 0.0)).max())
            largest = largest * float(a.max()) + sizes
    return largest


def gain(program: Program, start: int, stop: int) -> float:
    """Return a bound of the largest change of a float result, for a change of 1 of its inputs."""
    most = 1.0
    for op in program.ops[start:stop]:
        match op:
            case Conv() | Linear():
                weight = np.abs(unpack_weights(op, program.tensors), dtype=np.float64)
                most *= float(weight.reshape(len(weight), -1).sum(1).max())
            case Affine():
                most *= float(np.abs(program.tensors[f"{op.name}.affine"][0]).max())
            case _:
                pass  # pools, ReLU and flattening never add to a change
    return most


def near_threshold(
    program: Program, start: int, stop: int, fed: Tensor, bias: Tensor | float, terms: Terms,
    drift: float = 0.0,
) -> NDArray[np.bool_]:  # fmt: skip
    """Return where rounding may decide the bit: an interval around the float holds the threshold.

    The interval goes through all that is ahead of the threshold; behind it, a pooled bit is near
    if any bit of its window is.

    Args:
        program: the packed network.
        start: the first op.
        stop: the op behind the last.
        fed: the value ahead of op ``start``; -1 and +1 where it is bits.
        bias: |bias| of a layer whose torch twin starts its float sum from it, per channel.
        terms: as in ``cancelled``.
        drift: how far the value ahead of op ``start`` may be from ``fed``.
    """
    low, high = fed.double() - drift, fed.double() + drift
    near: Tensor | None = None
    for i in range(start, stop):
        op = program.ops[i]
        if isinstance(op, (Threshold, Sign)):
            t = torch.zeros(1) if isinstance(op, Sign) else _numbers(program, op.name, low)
            near = (low <= t) & (t <= high) & (low != high)
        elif near is not None:
            near = _behind(op, near)
        else:
            low, high = _through(program, i, low, high, bias, terms)
    result = torch.zeros_like(low, dtype=torch.bool) if near is None else near
    return result.numpy()


def _through(
    program: Program, i: int, low: Tensor, high: Tensor, bias: Tensor | float, terms: Terms
) -> tuple[Tensor, Tensor]:
    """Return the interval after op i, widened by its rounding."""
    op = program.ops[i]
    match op:
        case Conv() | Linear():
            if op.low == 0:
                low, high = (low + 1) / 2, (high + 1) / 2
            exact = program.values[i + 1].exact
            return _layer(op, low, high, program, 0.0 if exact else MARGIN, bias)
        case Affine():
            a, b = torch.from_numpy(program.tensors[f"{op.name}.affine"]).double()
            sizes = torch.from_numpy(np.asarray(terms.get(op.name, np.zeros(1)))) + b.abs()
            a, b, sizes = (_per_channel(row, low) for row in (a, b, sizes))
            ends = a * low + b, a * high + b
            reach = MARGIN * (a.abs() * torch.maximum(low.abs(), high.abs()) + sizes)
            return torch.minimum(*ends) - reach, torch.maximum(*ends) + reach
        case Relu():
            return low.clamp(min=0), high.clamp(min=0)
        case MaxPool():
            return _pool(op, low), _pool(op, high)
        case AvgPool():
            reach = MARGIN * _average(op, torch.maximum(low.abs(), high.abs()))
            return _average(op, low) - reach, _average(op, high) + reach
        case Flatten():
            return low.flatten(1), high.flatten(1)
    raise AssertionError(f"{op.op} makes no floats")


def _behind(op: Any, near: Tensor) -> Tensor:
    if isinstance(op, MaxPool):
        return _pool(op, near.double()) > 0
    assert isinstance(op, Flatten)
    return near.flatten(1)


def _layer(
    op: Conv | Linear, low: Tensor, high: Tensor, program: Program, margin: float,
    bias: Tensor | float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    weight = torch.from_numpy(unpack_weights(op, program.tensors)).double()

    def weighted(x: Tensor, weight: Tensor, pad: float) -> Tensor:
        if isinstance(op, Linear):
            return F.linear(x, weight)
        top, left, bottom, right = op.padding
        x = F.pad(x, (left, right, top, bottom), value=pad)
        return F.conv2d(x, weight, None, op.stride, 0, op.dilation, op.groups)

    pad = op.pad if isinstance(op, Conv) else 0.0
    middle = weighted((low + high) / 2, weight, pad)
    magnitude = weighted(torch.maximum(low.abs(), high.abs()), weight.abs(), abs(pad))
    reach = margin * (magnitude + bias)
    if bool((low != high).any()):
        reach = reach + weighted((high - low) / 2, weight.abs(), 0.0)
    return middle - reach, middle + reach


def _numbers(program: Program, name: str, like: Tensor) -> Tensor:
    t = torch.from_numpy(program.tensors[f"{name}.threshold"].astype(np.float64))
    return _per_channel(t, like)


def _per_channel(row: Tensor, like: Tensor) -> Tensor:
    return row.reshape(-1, *(1,) * (like.dim() - 2))


def _pool(op: MaxPool, x: Tensor) -> Tensor:
    return F.max_pool2d(x, op.size, op.step, op.padding, op.dilation)


def _average(op: AvgPool, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, op.size, op.step, op.padding)
