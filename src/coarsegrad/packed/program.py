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
    Levels,
    Linear,
    MaxPool,
    Op,
    Relu,
    Sign,
    Threshold,
)
from coarsegrad.packed.shapes import check_size, conv_shape, pool_shape
from coarsegrad.packed.tables import check_levels, check_thresholds, flip_form, threshold_forms
from coarsegrad.packed.weights import (
    check_finite,
    check_spare_bits,
    check_weight,
    largest_sum,
    largest_weight,
    weight_forms,
)

# Above this, float32 no longer holds every integer, and sums of signs stop being exact.
MAX_EXACT_SUM = 1 << 24

Kind = Literal["floats", "sums", "bits"]
Tensors = Mapping[str, NDArray[Any]]


class Value(NamedTuple):
    """What is known of a value before it exists: its kind, its shape without the batch."""

    kind: Kind
    shape: tuple[int, ...]
    exact: bool = False  # sums of bits times packed weights, integers that float32 holds
    bits: int = 1  # of a cell, where the kind is bits


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

        Where bits feed them, it takes floats of -1 and +1 and begins with their signs; where a
        cell has more bits, floats of 0, 1, .. and begins with their thresholds.
        """
        before = self.values[start]
        ops = self.ops[start:stop]
        names = {name for op in ops for name in _tensor_names(op)} & self.tensors.keys()
        tensors = {name: self.tensors[name] for name in names}
        head: tuple[Op, ...] = ()
        if before.kind == "bits" and before.bits == 1:
            head = (Sign(),)
        elif before.kind == "bits":
            name = "input"
            while f"{name}.threshold" in tensors or f"{name}.flip" in tensors:
                name += "_"
            head = (Threshold(name, before.bits),)
            rows = np.arange(2**before.bits - 1, dtype=np.float32)[:, None] + np.float32(0.5)
            tensors[f"{name}.threshold"] = np.repeat(rows, before.shape[0], 1)
        return Program(before.shape, head + ops, tensors)


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
        case Levels():
            return (f"{op.name}.levels",)
    return ()


def _after(op: Op, value: Value, tensors: _Tensors, place: str) -> Value:
    """Return what ``op`` makes of ``value``, or raise what does not fit."""
    match op:
        case Conv() | Linear():
            return _sums(op, value, tensors, place)
        case Threshold():
            _require(value.kind in ("sums", "floats"), place, "sums or floats", value)
            _threshold(op, value, tensors, place)
            return Value("bits", value.shape, bits=op.bits)
        case Levels():
            _require(value.kind == "bits", place, "bits", value)
            table = tensors.get(f"{op.name}.levels", ("float32", (2**value.bits,)))
            check_levels(table, f"{op.name}.levels", place)
            return Value("floats", value.shape)
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


def _sums(op: Conv | Linear, value: Value, tensors: _Tensors, place: str) -> Value:
    """Return the sums of a layer: exact where integers meet integers and stay below 2^24."""
    _require(value.kind in ("bits", "floats"), place, "bits or floats", value)
    _require(value.kind == "bits" or op.low == -1, place, "bits for low 0", value)
    if value.bits > 1 and (op.low != 0 or getattr(op, "pad", 0) != 0):
        raise PackedFileError(
            f"{place} needs low 0 and pad 0 for cells of {value.bits} bits, got low {op.low}"
            + (f", pad {op.pad}" if isinstance(op, Conv) else "")
        )
    if op.odd and op.bits is None:
        raise PackedFileError(f"{place} is odd, which needs the key bits, 2 to 8")
    array = tensors.get(f"{op.name}.weight", *weight_forms(op))
    check_weight(op, array, place)
    shape = _layer_shape(op, value, place)
    if value.kind == "floats" or array.dtype != np.uint8:
        return Value("sums", shape)
    fan_in = math.prod(op.shape[1:])
    if value.bits == 1 and op.bits is None:
        if fan_in >= MAX_EXACT_SUM:
            raise PackedFileError(f"{place} sums {fan_in} bits; 2^24 - 1 at most are exact")
        return Value("sums", shape, exact=True)
    most = 2**value.bits - 1
    # What the forms allow is enough for most layers; else the weights themselves decide.
    exact = fan_in * largest_weight(op) * most <= MAX_EXACT_SUM
    exact = exact or largest_sum(op, tensors.tensors, most) <= MAX_EXACT_SUM
    return Value("sums", shape, exact)


def _layer_shape(op: Conv | Linear, value: Value, place: str) -> tuple[int, ...]:
    if isinstance(op, Conv):
        return conv_shape(op, value.shape, f"{value.kind} {list(value.shape)}", place)
    _require(value.shape == op.shape[1:], place, f"shape {[op.shape[1]]}", value)
    return (op.shape[0],)


def _require(fits: bool, place: str, needed: str, value: Value) -> None:
    if not fits:
        raise PackedFileError(f"{place} needs {needed}, got {value.kind} {list(value.shape)}")


def _threshold(op: Threshold, value: Value, tensors: _Tensors, place: str) -> None:
    channels = value.shape[0]
    forms = threshold_forms(op, channels, exact=value.exact)
    array = tensors.get(f"{op.name}.threshold", *forms)
    flip = f"{op.name}.flip"
    bits = tensors.get(flip, flip_form(channels)) if flip in tensors.tensors else None
    if bits is not None:
        check_spare_bits(bits, channels, flip, place)
    check_thresholds(op, array, bits, place)
