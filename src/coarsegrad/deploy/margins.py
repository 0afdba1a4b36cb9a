"""How far a packed program's floats may be from torch's, which round in another order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
    Levels,
    Linear,
    MaxPool,
    Program,
    Relu,
    Sign,
    Threshold,
    unpack_bits,
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


class Possible(NamedTuple):
    """The least and the most level that rounding leaves a cell, counted from 0; int64 arrays."""

    least: NDArray[np.int64]
    most: NDArray[np.int64]

    @property
    def open(self) -> NDArray[np.bool_]:
        """Where rounding may decide the level."""
        differs: NDArray[np.bool_] = self.least != self.most
        return differs

    def allows(self, levels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where ``levels`` are among the possible ones."""
        allowed: NDArray[np.bool_] = (self.least <= levels) & (levels <= self.most)
        return allowed


def possible_levels(
    program: Program, start: int, stop: int, fed: Tensor, bias: Tensor | float, terms: Terms,
    drift: float = 0.0,
) -> Possible:  # fmt: skip
    """Return which levels rounding may lead to: an interval around the float holds the thresholds.

    The interval goes through all that is ahead of the threshold; behind it, levels are pooled as
    the file has them.

    Args:
        program: the packed network.
        start: the first op.
        stop: the op behind the last.
        fed: the value ahead of op ``start``; -1 and +1, or 0, 1, .. where it is bits.
        bias: |bias| of a layer whose torch twin starts its float sum from it, per channel.
        terms: as in ``cancelled``.
        drift: how far the value ahead of op ``start`` may be from ``fed``.
    """
    low, high = fed.double() - drift, fed.double() + drift
    found = False
    for i in range(start, stop):
        op = program.ops[i]
        if isinstance(op, (Threshold, Sign)):
            low, high = _levels(program, op, low, high)
            found = True
        elif found:
            low, high = (_behind(op, x) for x in (low, high))
        else:
            low, high = _through(program, i, low, high, bias, terms)
    if not found:
        low = high = torch.zeros_like(low)
    return Possible(low.long().numpy(), high.long().numpy())


def _levels(
    program: Program, op: Threshold | Sign, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the least and most level, as float64, of anything in the interval.

    A threshold at either end is within; where the ends are one number, nothing is open.
    """
    channels = low.shape[1]
    rows, flip = np.zeros((1, channels)), None
    if isinstance(op, Threshold):
        rows = np.atleast_2d(program.tensors[f"{op.name}.threshold"].astype(np.float64))
        flip = program.tensors.get(f"{op.name}.flip")
    falls = torch.zeros(channels, 1, dtype=torch.bool)
    if flip is not None:
        falls = torch.from_numpy(unpack_bits(flip, channels) < 0)[:, None]
    t = torch.from_numpy(np.sort(rows, 0).T.copy())
    below = torch.searchsorted(t, _by_channel(low))
    up_to = torch.searchsorted(t, _by_channel(high), right=True)
    most = torch.where(falls, len(rows) - below, up_to)
    least = torch.where(falls, len(rows) - up_to, below)
    least = torch.where(_by_channel(low == high), most, least)
    like = low.transpose(0, 1)
    least, most = (x.reshape(like.shape).transpose(0, 1).double() for x in (least, most))
    return least, most


def _by_channel(x: Tensor) -> Tensor:
    """Return (C, all else) of (N, C, ...)."""
    return x.transpose(0, 1).reshape(x.shape[1], -1).contiguous()


def _through(
    program: Program, i: int, low: Tensor, high: Tensor, bias: Tensor | float, terms: Terms
) -> tuple[Tensor, Tensor]:
    """Return the interval after op i, widened by its rounding."""
    op = program.ops[i]
    match op:
        case Conv() | Linear():
            if op.low == 0 and program.values[i].bits == 1:
                low, high = (low + 1) / 2, (high + 1) / 2
            exact = program.values[i + 1].exact
            return _layer(op, low, high, program, 0.0 if exact else MARGIN, bias)
        case Levels():
            table = torch.from_numpy(program.tensors[f"{op.name}.levels"]).double()
            low, high = (x.clamp(min=0).long() for x in (low, high))
            return table[low], table[high]
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


def _behind(op: Any, levels: Tensor) -> Tensor:
    if isinstance(op, MaxPool):
        return _pool(op, levels)
    assert isinstance(op, Flatten)
    return levels.flatten(1)


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


def _per_channel(row: Tensor, like: Tensor) -> Tensor:
    return row.reshape(-1, *(1,) * (like.dim() - 2))


def _pool(op: MaxPool, x: Tensor) -> Tensor:
    return F.max_pool2d(x, op.size, op.step, op.padding, op.dilation)


def _average(op: AvgPool, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, op.size, op.step, op.padding)
