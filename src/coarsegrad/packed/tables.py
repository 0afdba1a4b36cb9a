"""Thresholds and tables of levels: what a packed file holds of them, and the check of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import PackedFileError
from coarsegrad.packed.ops import Threshold
from coarsegrad.packed.weights import check_finite

Form = tuple[str, tuple[int, ...]]


def threshold_forms(op: Threshold, channels: int, *, exact: bool) -> tuple[Form, ...]:
    """Return (dtype, shape) of each form that the thresholds of exact or float sums may have."""
    shape = (channels,) if op.bits == 1 else (2**op.bits - 1, channels)
    return tuple((dtype, shape) for dtype in (("int16", "int32") if exact else ("float32",)))


def flip_form(channels: int) -> Form:
    """Return (dtype, shape) of the channels' flip bits."""
    return "uint8", (math.ceil(channels / 8),)


def check_thresholds(
    op: Threshold, rows: NDArray[Any], flip: NDArray[np.uint8] | None, place: str
) -> None:
    """Raise PackedFileError for NaN, or for rows that are not in order.

    In order means that whoever passes a row has passed all before it, whose number is the level.
    """
    if np.isnan(rows).any():
        raise PackedFileError(f"{place}: {op.name}.threshold holds NaN")
    if op.bits == 1:
        return
    rises, falls = rows[1:] >= rows[:-1], rows[1:] <= rows[:-1]
    flipped = np.zeros(rows.shape[1], bool)
    if flip is not None:
        flipped = np.unpackbits(flip, count=rows.shape[1], bitorder="little").astype(bool)
    sorted_channels = np.where(flipped, falls, rises).all(0)
    if not sorted_channels.all():
        channel = int(np.argmin(sorted_channels))
        order = "fall" if flipped[channel] else "rise"
        raise PackedFileError(
            f"{place}: the rows of {op.name}.threshold do not {order} in channel {channel}"
            f"{', whose flip bit is 1' if flipped[channel] else ''}"
        )


def check_levels(table: NDArray[np.float32], name: str, place: str) -> None:
    """Raise PackedFileError unless a table of levels is finite and rises."""
    check_finite(table, name, place)
    if not (table[1:] > table[:-1]).all():
        raise PackedFileError(f"{place}: {name} does not rise from each level to the next")
