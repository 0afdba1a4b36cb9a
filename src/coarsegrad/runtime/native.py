"""Packed program -> native engine: ops fused into stages, laid out for one target at load."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
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
    Program,
    Relu,
    Sign,
    Threshold,
    runs_on_bits,
    unpack_bits,
    unpack_weights,
)

if TYPE_CHECKING:
    from coarsegrad._native import Engine

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair, Pair]

_BEYOND = (1 << 24) + 2

# Calls that run at once on one model; further ones wait for an arena.
_ARENAS = 4


class UnsupportedError(Exception):
    """A program, or an op of it, that the native engine has no stage for; says which and why."""


def build(program: Program, target: str | None, threads: int) -> Engine:
    """Return a sealed engine for ``program``.

    A maximum ahead of a threshold moves behind it, onto bits: AND of -1 bits, OR in flipped
    channels; of integers the largest, or the least. Dense layers on a flattened bit plane become
    windows as large as the plane.

    Raises:
        UnsupportedError: an order of ops that only the numpy executor runs.
        ValueError: an unknown target, or one that this CPU does not run.
    """
    from coarsegrad._native import Engine

    channels, *sizes = program.input
    shape = (channels, *sizes, *(1,) * (2 - len(sizes)))
    builder = _Builder(program, Engine(target, (shape[0], shape[1], shape[2])))
    index = 0
    while index < len(program.ops):
        op = program.ops[index]
        try:
            index = builder.add(index)
        except ValueError as error:
            name = getattr(op, "name", "")
            raise UnsupportedError(f"op {index} ({op.op} {name}): {error}") from None
    if program.values[-1].kind == "bits":
        builder.engine.add_unpack(_levels(builder.bits, -1))
    try:
        builder.engine.seal(threads, _ARENAS)
    except ValueError as error:
        raise UnsupportedError(str(error)) from None
    return builder.engine


class _Builder:
    """The engine so far, and how many bits a cell has where it ends on bits, else 0."""

    def __init__(self, program: Program, engine: Engine) -> None:
        self.program = program
        self.engine = engine
        self.bits = 0

    def add(self, index: int) -> int:
        """Add the stages that begin with op ``index``; return the first op behind them."""
        op = self.program.ops[index]
        match op:
            case Conv() | Linear():
                return self._layer(index, op)
            case Sign():
                self.engine.add_pack()
                self.bits = 1
            case Flatten():
                if not self.bits:
                    self.engine.add_flatten()
            case MaxPool():
                self._pool(op, None)
            case AvgPool():
                self._floats(index, -1)
                self.engine.add_float_pool(_windows(op), True)
            case Relu():
                self.engine.add_relu()
            case Threshold():
                self._thresholds(_Epilogue(self.program, op))
            case Levels():
                self._unpack(index, self.program.tensors[f"{op.name}.levels"])
            case Affine():
                self._floats(index, -1)
                epilogue = _Epilogue(self.program, op)
                self._each_channel(epilogue.scale, epilogue.shift)
        return index + 1

    def _layer(self, index: int, op: Conv | Linear) -> int:
        """Add a layer with the pools and the threshold or affine that follow it."""
        following = self.program.ops[index + 1 :]
        pools = [pool for pool in takewhile(_is_pool, following) if isinstance(pool, MaxPool)]
        rest = following[len(pools) :]
        finish = rest[0] if rest and isinstance(rest[0], (Threshold, Affine)) else None
        epilogue = _Epilogue(self.program, finish)
        if pools and epilogue.scale is not None and bool((epilogue.scale < 0).any()):
            # A maximum does not pass a negative scale: the affine stays behind the pools.
            finish, epilogue = None, _Epilogue(self.program, None)
        after = self._sum(index, op, epilogue)
        for pool in pools:
            self._pool(pool, epilogue.flips if self.bits else None)
        if after is not None:
            self._thresholds(after)
        return index + 1 + len(pools) + (finish is not None)

    def _sum(self, index: int, op: Conv | Linear, epilogue: _Epilogue) -> _Epilogue | None:
        """Add the layer; return its thresholds if they are still to be applied."""
        groups = op.groups if isinstance(op, Conv) else 1
        pad = op.pad if isinstance(op, Conv) and any(op.padding) else 0
        if runs_on_bits(self.program, index):
            planes = np.atleast_2d(self.program.tensors[f"{op.name}.weight"])
            signs = planes[0] if op.bits is None else digits(planes)
            mask = planes[1] if op.bits is None and len(planes) == 2 else None
            self.engine.add_bit_layer(
                self._geometry(op), op.shape[0], groups, pad, op.low, signs, op.bits or 1, op.odd,
                mask, epilogue.thresholds_int, epilogue.bits or 1,
                epilogue.flips, epilogue.scale, epilogue.shift,
            )  # fmt: skip
            self.bits = epilogue.bits
            return None
        self._floats(index, op.low)
        return self._float_sum(op, epilogue, groups, pad)

    def _floats(self, index: int, low: int) -> None:
        """Make floats of the value before op ``index``: single bits stand for ``low`` and 1."""
        if self.bits:
            self._unpack(index, _levels(self.bits, low))

    def _unpack(self, index: int, levels: NDArray[np.float32]) -> None:
        self.engine.add_unpack(levels)
        self.bits = 0
        if len(self.program.values[index].shape) == 1:
            self.engine.add_flatten()

    def _float_sum(
        self, op: Conv | Linear, epilogue: _Epilogue, groups: int, pad: int
    ) -> _Epilogue | None:
        kernel, stride, before, after, dilation = self._geometry(op)
        if pad != 0:
            self.engine.add_pad(before, after, pad)
            before = after = (0, 0)
        geometry = (kernel, stride, before, after, dilation)
        # The kernel writes signs of whole panels of 16 channels, and no integers: those are fewer
        # to find behind the pools.
        direct = epilogue.bits == 1 and (groups == 1 or op.shape[0] // groups % 16 == 0)
        self.engine.add_float_layer(
            geometry, op.shape[0], groups, unpack_weights(op, self.program.tensors).reshape(-1),
            epilogue.thresholds_float if direct else None, epilogue.flips if direct else None,
            epilogue.scale, epilogue.shift,
        )  # fmt: skip
        self.bits = int(direct)
        return None if direct or not epilogue.bits else epilogue

    def _geometry(self, op: Conv | Linear) -> Geometry:
        if isinstance(op, Conv):
            top, left, bottom, right = op.padding
            kernel = (op.shape[2], op.shape[3])
            return kernel, op.stride, (top, left), (bottom, right), op.dilation
        # A dense layer is a window as large as the plane of bits, or as one flattened feature.
        _, height, width = self.engine.shape
        return (height, width), (1, 1), (0, 0), (0, 0), (1, 1)

    def _pool(self, op: MaxPool, all_mask: NDArray[np.uint8] | None) -> None:
        if self.bits:
            self.engine.add_bit_pool(_windows(op), all_mask)
        else:
            self.engine.add_float_pool(_windows(op), False)

    def _thresholds(self, epilogue: _Epilogue) -> None:
        thresholds = epilogue.thresholds_float
        assert thresholds is not None
        self.engine.add_pack_levels(epilogue.bits, thresholds, epilogue.flips)
        self.bits = epilogue.bits

    def _each_channel(
        self, scale: NDArray[np.float32] | None, shift: NDArray[np.float32] | None
    ) -> None:
        """Add scale * x + shift, as a float layer of one weight a channel."""
        channels = self.engine.shape[0]
        geometry: Geometry = ((1, 1), (1, 1), (0, 0), (0, 0), (1, 1))
        ones = np.ones(channels, np.float32)
        self.engine.add_float_layer(
            geometry, channels, channels, ones, None, None, scale, shift
        )  # fmt: skip


def digits(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return planes of two's complement, lowest first, as the kernel's: highest first, 1 for -1.

    With 2^(b - 1) added, so that none is negative, the highest digit is turned; a digit d is the
    sign 2d - 1.

    >>> digits(np.array([[3], [10], [3]], np.uint8))  # -3, -1, 0, 2: 1, 3, 4, 6 when 4 are added
    array([  3, 245, 252], dtype=uint8)
    """
    highest, *others = planes[::-1]
    return np.concatenate([highest, *(~plane for plane in others)])


def _levels(bits: int, low: int) -> NDArray[np.float32]:
    """Return the numbers that cells stand for: ``low`` and 1, or with more bits 0, 1, 2, .."""
    return np.array([low, 1] if bits == 1 else range(1 << bits), np.float32)


def _windows(op: MaxPool | AvgPool) -> Geometry:
    return op.size, op.step, op.padding, op.padding, op.dilation


def _is_pool(op: Op) -> bool:
    return isinstance(op, MaxPool)


class _Epilogue:
    """What becomes of a layer's sums: thresholds with flips, or scale and shift, or nothing.

    ``bits`` of the integers that thresholds make, 0 where there are none.
    """

    def __init__(self, program: Program, finish: Op | None) -> None:
        self.bits = 0
        self.thresholds: NDArray[Any] | None = None
        self.flips: NDArray[np.uint8] | None = None
        self.scale: NDArray[np.float32] | None = None
        self.shift: NDArray[np.float32] | None = None
        if isinstance(finish, Threshold):
            self.bits = finish.bits
            self.thresholds = program.tensors[f"{finish.name}.threshold"]
            flip = program.tensors.get(f"{finish.name}.flip")
            if flip is not None:
                channels = self.thresholds.shape[-1]
                self.flips = (unpack_bits(flip, channels) < 0).astype(np.uint8)
        elif isinstance(finish, Affine):
            self.scale, self.shift = program.tensors[f"{finish.name}.affine"]

    @property
    def thresholds_int(self) -> NDArray[np.int32] | None:
        """The thresholds as the kernels of bit layers take them."""
        return None if self.thresholds is None else self.thresholds.astype(np.int32).reshape(-1)

    @property
    def thresholds_float(self) -> NDArray[np.float32] | None:
        """The thresholds as the kernels of float layers take them."""
        t = self.thresholds
        if t is not None and t.dtype != np.float32:
            # No sum is beyond 2^24, and up to there float32 holds every integer.
            t = t.astype(np.int32).clip(-_BEYOND, _BEYOND)
        return None if t is None else t.astype(np.float32).reshape(-1)
