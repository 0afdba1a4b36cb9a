"""Which layers the bit kernels take: known from the program alone, on every native target."""

from __future__ import annotations

import math

import numpy as np

from coarsegrad.packed.ops import Conv, Flatten, Linear
from coarsegrad.packed.program import MAX_EXACT_SUM, Program
from coarsegrad.packed.weights import largest_weight


def runs_on_bits(program: Program, index: int) -> bool:
    """Return whether op ``index``, a ``conv`` or ``linear``, runs on a bit kernel.

    The native executor counts bits where bits, one or more a cell, meet binary or ternary weights,
    and weights of several bits on cells from 0 on, padded with 0, where that is faster than floats
    with AVX2, unless groups cut through the bytes of a pixel, padding of -1 stands between inputs
    of 0 and 1, or sums may pass 2^24. All other layers run in float32, exact on integers up to
    there. The numpy executor, having no kernels, runs all in float32.

    Raises:
        ValueError: the op is no layer.

    >>> from coarsegrad.packed import Sign, pack_bits
    >>> program = Program((8,), (Sign(), Linear("a", (1, 8))), {"a.weight": pack_bits(np.ones(8))})
    >>> runs_on_bits(program, 1)
    True
    """
    op = program.ops[index]
    if not isinstance(op, (Conv, Linear)):
        raise ValueError(f"runs_on_bits needs a conv or linear, but op {index} is a {op.op}")
    value = program.values[index]
    if value.kind != "bits" or program.tensors[f"{op.name}.weight"].dtype != np.uint8:
        return False
    if op.bits is not None and not _faster_in_planes(program, index, op):
        return False
    most = math.prod(op.shape[1:]) * largest_weight(op) * (2**value.bits - 1)
    if most > MAX_EXACT_SUM:
        return False
    if isinstance(op, Linear):
        return True
    whole_bytes = op.groups == 1 or op.shape[1] % 8 == 0
    padded = any(op.padding)
    return whole_bytes and not (padded and op.low == 0 and op.pad == -1)


# Measured with AVX2 against the float kernels: a pass over the bits is about nine times as fast for
# 64 output channels or more, six times in short rows, and fewer channels take as long.
_PASSES, _SHORT_PASSES, _PANEL, _LONG_ROW = 9, 6, 64, 256


def _faster_in_planes(program: Program, index: int, op: Conv | Linear) -> bool:
    assert op.bits is not None
    if op.low != 0 or (isinstance(op, Conv) and any(op.padding) and op.pad != 0):
        return False
    groups = op.groups if isinstance(op, Conv) else 1
    flat = index > 0 and isinstance(program.ops[index - 1], Flatten)
    channels = program.values[index - 1 if flat else index].shape[0] // groups
    # AVX2 counts two planes of cells at once, and the spare bits of pixels too.
    passes = op.bits * math.ceil(program.values[index].bits / 2) * _pixel_bits(channels) / channels
    affordable = _PASSES if math.prod(op.shape[1:]) >= _LONG_ROW else _SHORT_PASSES
    return passes * _PANEL <= affordable * min(op.shape[0] // groups, _PANEL)


def _pixel_bits(channels: int) -> int:
    """Return the bits of a pixel, spare ones included: a byte, two, or words of 32."""
    return 8 * math.ceil(channels / 8) if channels <= 16 else 32 * math.ceil(channels / 32)
