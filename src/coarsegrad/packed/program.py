"""A packed network in memory: ops, tensors, and the check that they fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import PackedFileError
from coarsegrad.packed.ops import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Op,
    Relu,
    Sign,
    Threshold,
)
from coarsegrad.packed.shapes import check_size, conv_shape, pool_shape
from coarsegrad.packed.weights import check_finite, check_spare_bits, check_weight, weight_forms

# Above this, float32 no longer holds every integer, and sums of signs stop being exact.
MAX_EXACT_SUM = 1 << 24

Kind = Literal["floats", "sums", "bits"]
Tensors = Mapping[str, NDArray[Any]]


class Value(NamedTuple):
    """What is known of a value before it exists: its kind, its shape without the batch."""

    kind: Kind
    shape: tuple[int, ...]
    exact: bool = False  # sums of bits times packed weights: integers


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
        check_size("the input", value.shape)
        values, used = [value], set[str]()
        for i, op in enumerate(self.ops):
            place = f"op {i} ({op.op}{f' {op.name!r}' if hasattr(op, 'name') else ''})"
            value = _after(op, value, _Tensors(place, self.tensors, used), place)
            check_size(place, value.shape)
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


def _after(op: Op, value: Value, tensors: _Tensors, place: str) -> Value:
    """Return what ``op`` makes of ``value``, or raise what does not fit."""
    match op:
        case Conv() | Linear():
            _require(value.kind in ("bits", "floats"), place, "bits or floats", value)
            _require(value.kind == "bits" or op.low == -1, place, "bits for low 0", value)
            weight = _weight(op, tensors)
            exact = value.kind == "bits" and weight == "uint8"
            shape = _layer_shape(op, value, place)
            fan_in = math.prod(op.shape[1:])
            if exact and fan_in >= MAX_EXACT_SUM:
                raise PackedFileError(f"{place} sums {fan_in} bits; 2^24 - 1 at most are exact")
            return Value("sums", shape, exact)
        case Threshold():
            _require(value.kind in ("sums", "floats"), place, "sums or floats", value)
            _threshold(op, value, tensors, place)
            return Value("bits", value.shape)
        case Affine():
            affine = tensors.get(f"{op.name}.affine", ("float32", (2, value.shape[0])))
            check_finite(affine, f"{op.name}.affine", place)
            return Value("floats", value.shape)
        case Relu():
            _require(value.kind in ("sums", "floats"), place, "sums or floats", value)
            return Value("floats", value.shape)
        case MaxPool() | AvgPool():
            _require(len(value.shape) == 3, place, "three dimensions", value)
            pooled = value._replace(shape=pool_shape(op, value.shape, place))
            return pooled if isinstance(op, MaxPool) else Value("floats", pooled.shape)
        case Flatten():
            return value._replace(shape=(math.prod(value.shape),))
        case Sign():
            _require(value.kind == "floats", place, "floats", value)
            return Value("bits", value.shape)


def _layer_shape(op: Conv | Linear, value: Value, place: str) -> tuple[int, ...]:
    if isinstance(op, Conv):
        return conv_shape(op, value.shape, f"{value.kind} {list(value.shape)}", place)
    _require(value.shape == op.shape[1:], place, f"shape {[op.shape[1]]}", value)
    return (op.shape[0],)


def _require(fits: bool, place: str, needed: str, value: Value) -> None:
    if not fits:
        raise PackedFileError(f"{place} needs {needed}, got {value.kind} {list(value.shape)}")


def _weight(op: Conv | Linear, tensors: _Tensors) -> str:
    array = tensors.get(f"{op.name}.weight", *weight_forms(op))
    check_weight(array, math.prod(op.shape), f"{op.name}.weight", tensors.place)
    return str(array.dtype)


def _threshold(op: Threshold, value: Value, tensors: _Tensors, place: str) -> None:
    channels = value.shape[0]
    dtypes = ("int16", "int32") if value.exact else ("float32",)
    array = tensors.get(f"{op.name}.threshold", *((d, (channels,)) for d in dtypes))
    if np.isnan(array).any():
        raise PackedFileError(f"{place}: {op.name}.threshold holds NaN")
    flip = f"{op.name}.flip"
    if flip in tensors.tensors:
        bits = tensors.get(flip, ("uint8", (math.ceil(channels / 8),)))
        check_spare_bits(bits, channels, flip, place)
