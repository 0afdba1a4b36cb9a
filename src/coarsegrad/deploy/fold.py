"""Folding: scale, bias, batch norm and ReLU before a quantizer become thresholds per channel.

The float32 functions that follow a sum (multiply, add, batch norm, ReLU) are monotone, rounding
included, as long as they stay finite. So the sums whose result the quantizer takes to a level or
above are those on one side of a threshold, one for each level but the lowest. They are found by
evaluating torch's own modules: on every integer a sum can take, or, where those are many, and for
float32 sums, by bisection for all levels at once. No formula of ours has to round as torch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coarsegrad.deploy.levels import Digits
from coarsegrad.errors import PackError

# Elements of one evaluation of the tail; what is made of them stays within 128 MiB.
_CHUNK = 1 << 21
# Up to so many integers, and so many in all channels together, each is tried, which proves the
# tail monotone.
_TRIED, _TRIED_TOGETHER = 1 << 17, 1 << 25

# Maps (M, ...) values of M trial sums, one per channel and trial, to what torch makes of them.
Tail = Callable[[Tensor], Tensor]


class Thresholds(NamedTuple):
    """Level l or above where s >= t[l - 1], or s <= t[l - 1] if ``flip``.

    ``t`` is (levels - 1, channels or features), ``flip`` (channels or features,).
    """

    t: NDArray[np.generic]
    flip: NDArray[np.bool_]


def integer_thresholds(
    tail: Tail, shape: tuple[int, ...], largest: int, name: str, digits: Digits, levels: int = 2
) -> Thresholds:
    """Return exact thresholds for integer sums in [-largest, largest].

    Args:
        tail: what follows the sum; takes and returns (M, *shape) float32.
        shape: shape of one trial: (C, 1, 1) or (C,), or (C, H, W) for a tail that flattens and
            then treats each feature on its own.
        largest: the most a sum of this layer can reach.
        name: the layer, for the message.
        digits: which level a result becomes, counted from the lowest.
        levels: how many there are.

    Raises:
        PackError: the tail is not monotone, which only a non-finite parameter can cause.
    """
    count = 2 * largest + 1
    if count <= _TRIED and count * math.prod(shape) <= _TRIED_TOGETHER:
        t, falling = _tried(tail, shape, largest, name, digits, levels)
    else:
        found = _bisected(tail, shape, largest, lambda key: key.float(), digits, levels)
        t, falling = found.key, found.falling
        # A level that every sum reaches, or none.
        t = torch.where(found.always, torch.where(falling, largest, -largest), t)
        t = torch.where(found.never, torch.where(falling, -largest - 1, largest + 1), t)
    dtype = np.int16 if largest + 1 <= np.iinfo(np.int16).max else np.int32
    return Thresholds(t.numpy().astype(dtype), falling.numpy())


def float_thresholds(
    tail: Tail, shape: tuple[int, ...], digits: Digits, levels: int = 2
) -> Thresholds:
    """Return exact thresholds for float32 sums, by bisection over the float32 numbers.

    Arguments are those of ``integer_thresholds``. A level that all or no sums reach gets -inf or
    +inf.
    """
    limit = _finite_limit(tail, shape)
    found = _bisected(tail, shape, limit, _float_of, digits, levels)
    sign = torch.where(found.falling, -1.0, 1.0)
    t = _float_of(found.key)
    t = torch.where(found.always, -torch.inf * sign, t)
    t = torch.where(found.never, torch.inf * sign, t)
    return Thresholds(t.numpy(), found.falling.numpy())


def _tried(
    tail: Tail, shape: tuple[int, ...], largest: int, name: str, digits: Digits, levels: int
) -> tuple[Tensor, Tensor]:
    """Return (t, falling) from the level of every integer: how many sums lie below each level."""
    sums = torch.arange(-largest, largest + 1, dtype=torch.float32)
    first = last = _digits(tail, digits, _trials(sums[:1], shape))
    rises = falls = torch.ones_like(first[0], dtype=torch.bool)
    counts = torch.zeros((levels, first.shape[1]), dtype=torch.int64)
    for part in sums.split(max(1, _CHUNK // math.prod(shape))):
        found = _digits(tail, digits, _trials(part, shape))
        steps = torch.cat([last, found]).diff(dim=0)
        rises, falls = rises & (steps >= 0).all(0), falls & (steps <= 0).all(0)
        counts += _histogram(found, levels)
        last = found[-1:]
    if not bool((rises | falls).all()):
        raise PackError(f"{name}: what follows its sums is not monotone; are its numbers finite?")
    falling = (first > last)[0]
    below = counts.cumsum(0)[:-1]  # sums that stay below levels 1, 2, ..
    # Constant channels: every sum reaches -largest, none reaches largest + 1.
    return torch.where(falling, largest - below, below - largest), falling


def _trials(sums: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return (M, *shape): each sum in every channel."""
    return sums.reshape(-1, *(1,) * len(shape)).expand(-1, *shape)


def _histogram(found: Tensor, levels: int) -> Tensor:
    """Return (levels, channels): how many trials of each channel ended on each level."""
    channels = found.shape[1]
    places = found * channels + torch.arange(channels)
    return places.flatten().bincount(minlength=levels * channels).reshape(levels, channels)


class _Bisected(NamedTuple):
    """For each level but the lowest and each channel: the key of its threshold, or none."""

    key: Tensor
    falling: Tensor
    always: Tensor
    never: Tensor


def _bisected(
    tail: Tail, shape: tuple[int, ...], limit: int, number: Callable[[Tensor], Tensor],
    digits: Digits, levels: int,
) -> _Bisected:  # fmt: skip
    """Return the thresholds of all levels, by bisection over keys in [-limit, limit].

    ``number`` gives the float32 numbers of keys, in their order. One evaluation of the tail serves
    all levels and channels.
    """
    size = math.prod(shape)
    wanted = torch.arange(1, levels)[:, None]

    def reached(keys: Tensor) -> Tensor:
        """Return (M, size) bools: whether the m-th trial reaches level m + 1."""
        parts = keys.split(max(1, _CHUNK // size))
        found = [_digits(tail, digits, number(part).reshape(-1, *shape)) for part in parts]
        return torch.cat(found) >= wanted

    low = torch.full((levels - 1, size), -limit, dtype=torch.int64)
    high = -low
    at_low, at_high = reached(low), reached(high)
    falling = (at_low & ~at_high).any(0)
    while bool((high - low > 1).any()):
        middle = (low + high).div(2, rounding_mode="floor")
        # Rising: keep reached(high); falling: keep reached(low).
        above = reached(middle) ^ falling
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    return _Bisected(
        torch.where(falling, low, high), falling, at_low & at_high, ~at_low & ~at_high
    )  # fmt: skip


def _finite_limit(tail: Tail, shape: tuple[int, ...]) -> int:
    """Return the key of a large sum up to which the tail neither overflows nor turns to NaN."""
    for largest in (torch.finfo(torch.float32).max, 1e30, 1e20, 1e10):
        ends = torch.tensor([-largest, largest]).reshape(-1, *(1,) * len(shape))
        with torch.no_grad():
            if bool(torch.isfinite(tail(ends.expand(-1, *shape).contiguous())).all()):
                return int(_order_of(torch.tensor([largest])))
    raise PackError("what follows a layer's sums overflows float32 for sums of 1e10")


def _digits(tail: Tail, digits: Digits, trial: Tensor) -> Tensor:
    """Return (M, channels or features) int64: the levels on which the trials end."""
    with torch.no_grad():
        result = tail(trial.contiguous())
    if bool(result.isnan().any()):
        raise PackError("what follows a layer's sums gives NaN; are its numbers finite?")
    return digits(result).flatten(1)


def _order_of(x: Tensor) -> Tensor:
    """Return int64 keys in the order of the float32 numbers; -0.0 and 0.0 share key 0."""
    bits = x.view(torch.int32).to(torch.int64)
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float_of(order: Tensor) -> Tensor:
    """Return the float32 numbers with these keys."""
    magnitude = order.abs().to(torch.int32).view(torch.float32)
    return torch.where(order < 0, -magnitude, magnitude)
