"""What is in a packed file, op by op, from the file alone: no torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coarsegrad.packed import Conv, Linear, Program, read

# kind of op -> the tensors that one may have, behind its name.
TENSORS = {
    "conv": ("weight",),
    "linear": ("weight",),
    "threshold": ("threshold", "flip"),
    "affine": ("affine",),
    "levels": ("levels",),
}


@dataclass(frozen=True)
class OpRow:
    """One op: the value that it makes and what it takes to make it.

    Attributes:
        op: kind, with its name if it has one.
        makes: ``"bits"``, ``"2-bit"`` to ``"8-bit"``, ``"sums"`` or ``"floats"``.
        shape: of one sample's value.
        input_bits: bits of a number that enters, 1 to 8 or 32.
        weight_bits: stored bits a weight; None without weights.
        macs: multiply-accumulates a sample.
        bytes: of its tensors in the file.
    """

    op: str
    makes: str
    shape: tuple[int, ...]
    input_bits: int
    weight_bits: int | None
    macs: int
    bytes: int


@dataclass(frozen=True)
class Contents:
    """A packed file: one row an op, the header, and their sum, the file's size."""

    file: str
    input: tuple[int, ...]
    rows: tuple[OpRow, ...]
    header_bytes: int
    total_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return dataclasses.asdict(self)

    def table(self) -> Any:
        """Return the same as a rich table."""
        from rich.table import Table

        table = Table(title=f"{self.file}: input {_sizes(self.input)}")
        for column in ("op", "makes", "shape", "bits in x w", "MACs", "bytes"):
            left = column in ("op", "makes", "shape")
            table.add_column(column, justify="left" if left else "right", overflow="fold")
        for row in self.rows:
            bits = "" if row.weight_bits is None else f"{row.input_bits} x {row.weight_bits}"
            macs = f"{row.macs:,}" if row.macs else ""
            table.add_row(row.op, row.makes, _sizes(row.shape), bits, macs, f"{row.bytes:,}")
        table.add_row("header: the graph", "", "", "", "", f"{self.header_bytes:,}")
        total = sum(row.macs for row in self.rows)
        table.add_section()
        table.add_row("total: the file", "", "", "", f"{total:,}", f"{self.total_bytes:,}")
        return table


def contents(path: Path) -> Contents:
    """Return what the packed file at ``path`` holds.

    Raises:
        PackedFileError: the file is damaged or not a packed file.
        OSError: it cannot be opened.
    """
    program, size = read(path), path.stat().st_size
    rows = tuple(_row(program, i) for i in range(len(program.ops)))
    header = size - sum(row.bytes for row in rows)
    return Contents(str(path), program.input, rows, header, size)


def _row(program: Program, index: int) -> OpRow:
    op, before, after = program.ops[index], program.values[index], program.values[index + 1]
    name = getattr(op, "name", None)
    tensors = [program.tensors[f"{name}.{tail}"] for tail in TENSORS.get(op.op, ())
               if f"{name}.{tail}" in program.tensors]  # fmt: skip
    macs, weight_bits = 0, None
    if isinstance(op, (Conv, Linear)):
        count = math.prod(op.shape)
        macs = math.prod(after.shape) * math.prod(op.shape[1:])
        # Two planes of bits hold -1, 0 and +1, B rows the digits of more levels.
        weight_bits = 32 if tensors[0].dtype == np.float32 else tensors[0].nbytes // -(-count // 8)
    return OpRow(
        op=op.op if name is None else f"{op.op} {name}",
        makes=f"{after.bits}-bit" if after.bits > 1 else after.kind,
        shape=after.shape,
        input_bits=before.bits if before.kind == "bits" else 32,
        weight_bits=weight_bits,
        macs=macs,
        bytes=sum(tensor.nbytes for tensor in tensors),
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
