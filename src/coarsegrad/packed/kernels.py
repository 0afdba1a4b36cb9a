"""Which layers the bit kernels take: known from the program alone, on every native target."""

from __future__ import annotations

import math

import numpy as np

from coarsegrad.packed.ops import Conv, Linear
from coarsegrad.packed.program import MAX_EXACT_SUM, Program


def runs_on_bits(program: Program, index: int) -> bool:
    """Return whether op ``index``, a ``conv`` or ``linear``, runs on a bit kernel.

    The native executor counts bits where bits, one or more a cell, meet binary or ternary weights,
    unless groups cut through the bytes of a pixel, padding of -1 stands between inputs of 0 and 1,
    or sums may pass 2^24. All other layers run in float32, exact on integers up to there. The
    numpy executor, having no kernels, runs all in float32.

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
    packed = program.tensors[f"{op.name}.weight"].dtype == np.uint8 and op.bits is None
    value = program.values[index]
    most = math.prod(op.shape[1:]) * (2**value.bits - 1)
    if value.kind != "bits" or not packed or most > MAX_EXACT_SUM:
        return False
    if isinstance(op, Linear):
        return True
    whole_bytes = op.groups == 1 or op.shape[1] % 8 == 0
    padded = any(op.padding)
    return whole_bytes and not (padded and op.low == 0 and op.pad == -1)
