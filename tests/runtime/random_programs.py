"""Random packed programs with cells of 1 to 8 bits, built op by op around what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from coarsegrad.errors import PackedFileError
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
    pack_bits,
    pack_digits,
    pack_ternary,
)
from coarsegrad.runtime import reference


class Growing:
    """A program so far, with what its last op makes of the samples x."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        channels, height, width = (int(n) for n in self.rng.integers([1, 6, 6], [5, 12, 12]))
        # Small integers: no order of summation rounds.
        self.x = self.rng.integers(-8, 9, (3, channels, height, width)).astype(np.float32)
        self.value: np.ndarray[Any, Any] = self.x
        self.program = Program(self.x.shape[1:], (), {})

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def add(self, op: Op, **tensors: np.ndarray[Any, Any]) -> bool:
        """Append the op if it fits the value before it."""
        named = {f"{op.name}.{key}": t for key, t in tensors.items()}  # type: ignore[union-attr]
        try:
            program = Program(
                self.program.input, (*self.program.ops, op), {**self.program.tensors, **named}
            )
        except PackedFileError:
            return False
        self.program = program
        self.value = reference.apply(op, self.value, program.tensors)
        return True

    def layer(self) -> None:
        name, before = f"n{len(self.program.ops)}", self.program.values[-1]
        bits = before.bits if before.kind == "bits" else 0
        low = 0 if bits > 1 or (bits == 1 and self.pick(True, False)) else -1
        keys: dict[str, Any] = {"low": low}
        if len(before.shape) == 1:
            shape: tuple[int, ...] = (self.pick(1, 7, 40, 65), before.shape[0])
            op: type[Any] = Linear
        else:
            groups = self.pick(1, 1, 2) if before.shape[0] % 2 == 0 else 1
            outputs = groups * self.pick(1, 5, 8, 16, 35)
            shape = (outputs, before.shape[0] // groups, self.pick(1, 2, 3), self.pick(1, 3))
            padding = tuple(int(self.rng.integers(0, k)) for k in (*shape[2:], *shape[2:]))
            keys |= {"groups": groups, "padding": padding, "stride": self.pick((1, 1), (2, 1)),
                     "pad": self.pick(-1, 0, 1) if bits <= 1 else 0}  # fmt: skip
            op = Conv
        weight, form = self.weight(shape)
        self.add(op(name, shape, **keys, **form), weight=weight)

    def weight(self, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        kind = self.pick("binary", "binary", "ternary", "digits", "odd", "float")
        bits = int(self.rng.integers(2, 9))
        top = 2 ** (bits - 1)
        if kind == "binary":
            return pack_bits(self.rng.standard_normal(shape)), {}
        if kind == "ternary":
            return pack_ternary(self.rng.integers(-1, 2, shape)), {}
        if kind == "digits":
            return pack_digits(self.rng.integers(1 - top, top, shape), bits), {"bits": bits}
        if kind == "odd":
            odd = 2 * self.rng.integers(-top, top, shape) + 1
            return pack_digits(odd, bits, odd=True), {"bits": bits, "odd": True}
        return self.rng.integers(-2, 3, shape).astype(np.float32), {}

    def threshold(self, bits: int) -> None:
        """Rows at values that occur, so that ties are common; both ways round."""
        before, name = self.program.values[-1], f"n{len(self.program.ops)}"
        channels = before.shape[0]
        columns = np.moveaxis(self.value, 1, -1).reshape(-1, channels)
        rows = self.rng.choice(columns, 2**bits - 1).astype(np.float32)
        rows += self.rng.integers(0, 2, rows.shape).astype(np.float32)
        rows.sort(axis=0)
        flip = self.rng.integers(0, 2, channels) * self.pick(0, 1)
        rows = np.where(flip, rows[::-1], rows)
        rows = rows[0] if bits == 1 else rows
        dtype = self.pick(np.int16, np.int32) if before.exact else np.float32
        if dtype == np.int16 and np.abs(rows).max() > 30000:
            dtype = np.int32
        tensors = {"threshold": rows.astype(dtype)}
        if flip.any():
            tensors["flip"] = np.packbits(flip.astype(np.uint8), bitorder="little")
        self.add(Threshold(name, bits), **tensors)

    def pool(self) -> None:
        self.add(self.pick(MaxPool((2, 2)), MaxPool((3, 2), (2, 1), (1, 1)), AvgPool((2, 2))))

    def floats(self) -> None:
        """Bits to floats, or floats to others, with integers for numbers."""
        before, name = self.program.values[-1], f"n{len(self.program.ops)}"
        rows = self.rng.integers(-2, 3, (2, before.shape[0])).astype(np.float32)
        table = np.cumsum(self.rng.integers(1, 3, 2**before.bits)).astype(np.float32) - 3
        if before.kind == "bits" and self.pick(True, False):
            self.add(Levels(name), levels=table)
        else:
            self.add(Affine(name), affine=rows)
        if self.pick(True, False):
            self.add(Relu())

    def stage(self) -> None:
        self.layer()
        if len(self.value.shape) == 4 and self.pick(True, False):
            self.add(self.pick(MaxPool((2, 2)), MaxPool((2, 3), (1, 1), (1, 1))))
        if self.pick(True, True, False):
            self.threshold(self.pick(1, 2, 2, 3, 4, 8))
        elif self.pick(True, False):
            self.floats()
        else:
            self.floats()
            self.threshold(self.pick(1, 2, 5))
        if len(self.value.shape) == 4 and self.pick(True, False, False):
            self.pool()


def random_program(seed: int) -> tuple[Program, np.ndarray[Any, Any]]:
    """Return a program and samples for it, whose sums are integers below 2^24."""
    growing = Growing(seed)
    start = growing.pick("threshold", "sign", "layer")
    if start == "sign":
        growing.add(Sign())
    elif start == "threshold":
        growing.threshold(growing.pick(1, 2, 3, 8))
    for _ in range(int(growing.rng.integers(1, 4))):
        growing.stage()
    if len(growing.value.shape) == 4 and growing.pick(True, True, False):
        growing.add(Flatten())
        growing.stage()
    return growing.program, growing.x
