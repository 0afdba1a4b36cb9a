"""A packed network in memory: ops, tensors, and the check that they fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import PackedFileError
from coarsegrad.packed.ops import Affine, Conv, Flatten, Linear, MaxPool, Op, Sign, Threshold

MAX_ELEMENTS = 1 << 28
# Above this, float32 no longer holds every integer, and sums of signs stop being exact.
MAX_EXACT_SUM = 1 << 24

Kind = Literal["floats", "sums", "bits"]
Tensors = Mapping[str, NDArray[Any]]


class Value(NamedTuple):
    """What is known of a value before it exists: its kind, its shape without the batch."""

    kind: Kind
    shape: tuple[int, ...]
    exact: bool = False  # sums of bits times bits: integers


@dataclass(frozen=True)
class Program:
    """A network as ``spec.md`` defines it, checked when it is made.

    Attributes:
        input: shape of one sample.
        ops: run in order.
        tensors: by name, numpy arrays in the file's dtypes.
        values: ``values[i]`` is the value before op i; the last is the result.

    Raises:
        PackedFileError: ops and tensors that do not fit together, with the op's place.
    """

    input: tuple[int, ...]
    ops: tuple[Op, ...]
    tensors: Tensors
    values: tuple[Value, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.input) <= 3 or any(n < 1 for n in self.input):
            raise PackedFileError(
                f"the graph's input needs 1 to 3 positive sizes, got {list(self.input)}"
            )
        value = Value("floats", self.input)
        _check_size("the input", value)
        values, used = [value], set[str]()
        for i, op in enumerate(self.ops):
            place = f"op {i} ({op.op}{f' {op.name!r}' if hasattr(op, 'name') else ''})"
            value = _after(op, value, _Tensors(place, self.tensors, used), place)
            _check_size(place, value)
            values.append(value)
        unused = sorted(set(self.tensors) - used)
        if unused:
            raise PackedFileError(f"no op of the graph uses tensor {unused[0]!r}")
        object.__setattr__(self, "values", tuple(values))

    def part(self, start: int, stop: int) -> Program:
        """Return ops ``start`` to ``stop - 1`` as a program of their own.

        Where bits feed them, it takes floats of -1 and +1 and begins with their signs.
        """
        before = self.values[start]
        ops = self.ops[start:stop]
        names = {name for op in ops for name in _tensor_names(op)} & self.tensors.keys()
        head: tuple[Op, ...] = (Sign(),) if before.kind == "bits" else ()
        return Program(before.shape, head + ops, {name: self.tensors[name] for name in names})


@dataclass(frozen=True)
class _Tensors:
    """The tensors as one op sees them: looked up with the dtype and shape it needs."""

    place: str
    tensors: Tensors
    used: set[str]

    def get(self, name: str, *allowed: tuple[str, tuple[int, ...]]) -> NDArray[Any]:
        if name not in self.tensors:
            raise PackedFileError(f"{self.place} needs tensor {name!r}, which the file lacks")
        array = self.tensors[name]
        got = (str(array.dtype), array.shape)
        if got not in allowed:
            wanted = " or ".join(f"{dtype} {list(shape)}" for dtype, shape in allowed)
            raise PackedFileError(
                f"{self.place} needs {name!r} to be {wanted}, got {got[0]} {list(got[1])}"
            )
        self.used.add(name)
        return array


def _tensor_names(op: Op) -> tuple[str, ...]:
    match op:
        case Conv() | Linear():
            return (f"{op.name}.weight",)
        case Threshold():
            return (f"{op.name}.threshold", f"{op.name}.flip")
        case Affine():
            return (f"{op.name}.affine",)
    return ()


def _check_size(place: str, value: Value) -> None:
    if math.prod(value.shape) > MAX_ELEMENTS:
        raise PackedFileError(
            f"{place} makes a value of shape {list(value.shape)}; at most {MAX_ELEMENTS} elements "
            "per sample are allowed"
        )


def _after(op: Op, value: Value, tensors: _Tensors, place: str) -> Value:
    """Return what ``op`` makes of ``value``, or raise what does not fit."""
    match op:
        case Conv() | Linear():
            _require(value.kind in ("bits", "floats"), place, "bits or floats", value)
            weight = _weight(op, tensors)
            exact = value.kind == "bits" and weight == "uint8"
            shape = _conv_shape(op, value, place) if isinstance(op, Conv) else (op.shape[0],)
            if isinstance(op, Linear):
                _require(value.shape == op.shape[1:], place, f"shape {[op.shape[1]]}", value)
            fan_in = math.prod(op.shape[1:])
            if exact and fan_in >= MAX_EXACT_SUM:
                raise PackedFileError(f"{place} sums {fan_in} bits; 2^24 - 1 at most are exact")
            return Value("sums", shape, exact)
        case Threshold():
            _require(value.kind in ("sums", "floats"), place, "sums or floats", value)
            _threshold(op, value, tensors, place)
            return Value("bits", value.shape)
        case Affine():
            _require(value.kind in ("sums", "floats"), place, "sums or floats", value)
            affine = tensors.get(f"{op.name}.affine", ("float32", (2, value.shape[0])))
            _check_finite(affine, f"{op.name}.affine", place)
            return Value("floats", value.shape)
        case MaxPool():
            return value._replace(shape=_pool_shape(op, value, place))
        case Flatten():
            return value._replace(shape=(math.prod(value.shape),))
        case Sign():
            _require(value.kind == "floats", place, "floats", value)
            return Value("bits", value.shape)


def _require(fits: bool, place: str, needed: str, value: Value) -> None:
    if not fits:
        raise PackedFileError(f"{place} needs {needed}, got {value.kind} {list(value.shape)}")


def _weight(op: Conv | Linear, tensors: _Tensors) -> str:
    count = math.prod(op.shape)
    array = tensors.get(
        f"{op.name}.weight", ("uint8", (math.ceil(count / 8),)), ("float32", op.shape)
    )
    _check_spare_bits(array, count, f"{op.name}.weight", tensors.place)
    _check_finite(array, f"{op.name}.weight", tensors.place)
    return str(array.dtype)


def _check_finite(array: NDArray[Any], name: str, place: str) -> None:
    if not np.isfinite(array).all():
        raise PackedFileError(f"{place}: {name} holds a non-finite number")


def _check_spare_bits(array: NDArray[Any], count: int, name: str, place: str) -> None:
    if array.dtype == np.uint8 and count % 8 and array[-1] >> (count % 8):
        raise PackedFileError(f"{place}: the bits of {name} after the last weight are not 0")


def _threshold(op: Threshold, value: Value, tensors: _Tensors, place: str) -> None:
    channels = value.shape[0]
    dtypes = ("int16", "int32") if value.exact else ("float32",)
    array = tensors.get(f"{op.name}.threshold", *((d, (channels,)) for d in dtypes))
    if np.isnan(array).any():
        raise PackedFileError(f"{place}: {op.name}.threshold holds NaN")
    flip = f"{op.name}.flip"
    if flip in tensors.tensors:
        bits = tensors.get(flip, ("uint8", (math.ceil(channels / 8),)))
        _check_spare_bits(bits, channels, flip, place)


def _conv_shape(op: Conv, value: Value, place: str) -> tuple[int, int, int]:
    out, per_group, *kernel = op.shape
    top, left, bottom, right = op.padding
    if len(value.shape) != 3 or value.shape[0] != per_group * op.groups or out % op.groups:
        raise PackedFileError(
            f"{place} of shape {list(op.shape)} with groups {op.groups} needs "
            f"[{per_group * op.groups}, H, W] and output channels in {op.groups} equal groups, "
            f"got {value.kind} {list(value.shape)}"
        )
    reach = [d * (k - 1) for d, k in zip(op.dilation, kernel, strict=True)]
    if max(top, bottom) > reach[0] or max(left, right) > reach[1]:
        raise PackedFileError(
            f"{place} pads by {list(op.padding)}; at most dilation * (kernel - 1) = {reach}"
        )
    height = _steps(value.shape[1] + top + bottom, reach[0], op.stride[0], place)
    width = _steps(value.shape[2] + left + right, reach[1], op.stride[1], place)
    _check_size(place, Value("floats", (value.shape[0], value.shape[1] + top + bottom,
                                        value.shape[2] + left + right)))  # fmt: skip
    # What an executor that gathers windows holds at once.
    gathered = (value.shape[0] * kernel[0] * kernel[1], height, width)
    _check_size(f"{place}, its windows gathered,", Value("floats", gathered))
    return out, height, width


def _pool_shape(op: MaxPool, value: Value, place: str) -> tuple[int, int, int]:
    _require(len(value.shape) == 3, place, "three dimensions", value)
    if any(2 * p > k for p, k in zip(op.padding, op.size, strict=True)):
        raise PackedFileError(
            f"{place} pads by {list(op.padding)}; at most half of its size {list(op.size)}"
        )
    channels, *sizes = value.shape
    padded = (n + 2 * p for n, p in zip(sizes, op.padding, strict=True))
    _check_size(place, Value("floats", (channels, *padded)))
    height, width = (
        _steps(n + 2 * p, d * (k - 1), s, place)
        for n, p, d, k, s in zip(sizes, op.padding, op.dilation, op.size, op.step, strict=True)
    )
    return channels, height, width


def _steps(size: int, reach: int, stride: int, place: str) -> int:
    if size <= reach:
        raise PackedFileError(f"{place} has a window of {reach + 1} cells on {size}")
    return (size - reach - 1) // stride + 1
