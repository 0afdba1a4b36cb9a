"""Folding: scale, bias, batch norm and ReLU before a sign become one threshold per channel.

The float32 functions that follow a sum (multiply, add, batch norm, ReLU) are monotone, rounding
included, as long as they stay finite. So the sums whose result the quantizer takes to its upper
level are those on one side of a threshold. It is found by evaluating torch's own modules: on every
integer a sum of signs can take, or by bisection over the float32 numbers. No formula of ours has to
round as torch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coarsegrad.deploy.levels import Upper
from coarsegrad.errors import PackError

# Elements of one evaluation of the tail: 2^24 float32 are 64 MiB.
_CHUNK = 1 << 24

# Maps (M, ...) values of M trial sums, one per channel and trial, to what torch makes of them.
Tail = Callable[[Tensor], Tensor]


class Thresholds(NamedTuple):
    """The upper level where s >= t, or s <= t if ``flip``; one entry per channel or feature."""

    t: NDArray[np.generic]
    flip: NDArray[np.bool_]


def integer_thresholds(
    tail: Tail, shape: tuple[int, ...], largest: int, name: str, upper: Upper
) -> Thresholds:
    """Return exact thresholds for integer sums in [-largest, largest].

    Args:
        tail: what follows the sum; takes and returns (M, *shape) float32.
        shape: shape of one trial: (C, 1, 1) or (C,), or (C, H, W) for a tail that flattens and
            then treats each feature on its own.
        largest: the most a sum of this layer can reach.
        name: the layer, for the message.
        upper: which results become the upper level.

    Raises:
        PackError: the tail is not monotone, which only a non-finite parameter can cause.
    """
    sums = torch.arange(-largest, largest + 1, dtype=torch.float32)
    positive = torch.cat([
        _is_upper(tail, upper, part.reshape(-1, *(1,) * len(shape)).expand(-1, *shape))
        for part in sums.split(max(1, _CHUNK // math.prod(shape)))
    ])  # fmt: skip
    falling = positive[0] & ~positive[-1]
    count = positive.sum(0)
    # Constant channels: every sum reaches -largest, none reaches largest + 1.
    t = torch.where(falling, count - 1 - largest, largest + 1 - count)
    found = torch.where(falling, sums[:, None] <= t, sums[:, None] >= t)
    if not torch.equal(found, positive):
        raise PackError(f"{name}: what follows its sums is not monotone; are its numbers finite?")
    dtype = np.int16 if largest + 1 <= np.iinfo(np.int16).max else np.int32
    return Thresholds(t.numpy().astype(dtype), falling.numpy())


def float_thresholds(tail: Tail, shape: tuple[int, ...], upper: Upper) -> Thresholds:
    """Return exact thresholds for float32 sums, by bisection over the float32 numbers.

    Arguments are those of ``integer_thresholds``. A constant channel gets -inf or +inf.
    """

    def positive(order: Tensor) -> Tensor:
        return _is_upper(tail, upper, _float_of(order).reshape(1, *shape))[0]

    limit = _finite_limit(tail, shape)
    low = torch.full((math.prod(shape),), -limit, dtype=torch.int64)
    high = torch.full((math.prod(shape),), limit, dtype=torch.int64)
    at_low, at_high = positive(low), positive(high)
    falling = at_low & ~at_high
    while bool((high - low > 1).any()):
        middle = (low + high).div(2, rounding_mode="floor")
        # Rising: keep positive(high); falling: keep positive(low).
        above = positive(middle) ^ falling
        high, low = torch.where(above, middle, high), torch.where(above, low, middle)
    t = _float_of(torch.where(falling, low, high))
    t = torch.where(at_low & at_high, -torch.inf, t)
    t = torch.where(~at_low & ~at_high, torch.inf, t)
    return Thresholds(t.numpy(), falling.numpy())


def _finite_limit(tail: Tail, shape: tuple[int, ...]) -> int:
    """Return the key of a large sum up to which the tail neither overflows nor turns to NaN."""
    for largest in (torch.finfo(torch.float32).max, 1e30, 1e20, 1e10):
        ends = torch.tensor([-largest, largest]).reshape(-1, *(1,) * len(shape))
        with torch.no_grad():
            if bool(torch.isfinite(tail(ends.expand(-1, *shape).contiguous())).all()):
                return int(_order_of(torch.tensor([largest])))
    raise PackError("what follows a layer's sums overflows float32 for sums of 1e10")


def _is_upper(tail: Tail, upper: Upper, trial: Tensor) -> Tensor:
    """Return (M, channels or features) bools: which trials end on the upper level."""
    with torch.no_grad():
        result = tail(trial.contiguous())
    if bool(result.isnan().any()):
        raise PackError("what follows a layer's sums gives NaN; are its numbers finite?")
    return upper(result).flatten(1)


def _order_of(x: Tensor) -> Tensor:
    """Return int64 keys in the order of the float32 numbers; -0.0 and 0.0 share key 0."""
    bits = x.view(torch.int32).to(torch.int64)
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _float_of(order: Tensor) -> Tensor:
    """Return the float32 numbers with these keys."""
    magnitude = order.abs().to(torch.int32).view(torch.float32)
    return torch.where(order < 0, -magnitude, magnitude)
