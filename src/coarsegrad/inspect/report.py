"""The report of ``summary``: rows and totals, as text, as a rich table, as a dict."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from coarsegrad.inspect import plain
from coarsegrad.inspect.count import NOTHING, Counts
from coarsegrad.inspect.sizes import Kernel
from coarsegrad.inspect.watch import Shape

if TYPE_CHECKING:
    from rich.table import Table

HEADER = "(header)"


@dataclass(frozen=True)
class Row:
    """One call of a module, parameters that no call used, or the header of the packed file.

    Attributes:
        name: the module's name, ``NAME@2`` for its second call.
        kind: the module's class.
        shape: of one sample's output, or None where there is none.
        input_bits: bits of an input, or None for floats; None unless it is a layer.
        weight_bits: bits of a weight, likewise.
        parameters: each counted at its first use.
        macs: multiply-adds of one sample, at the precision of the wider operand.
        kernel: what runs the layer in the packed file, or None.
        bytes: the row's tensors in the packed file; of a model without packed form a layer's
            weights alone; None where unknown.
    """

    name: str
    kind: str
    shape: Shape | None = None
    input_bits: int | None = None
    weight_bits: int | None = None
    parameters: Counts = NOTHING
    macs: Counts = NOTHING
    kernel: Kernel | None = None
    bytes: int | None = 0

    @property
    def precision(self) -> str | None:
        """What a multiply-add multiplies: W1A2 are 1-bit weights and 2-bit inputs, 32 floats."""
        return f"W{self.weight_bits or 32}A{self.input_bits or 32}" if self.macs.total else None


@final
@dataclass(frozen=True, repr=False)
class Summary:
    """What ``summary`` found; ``str`` is a table of 80 columns, ``table()`` one for rich.

    Attributes:
        model: the model's class.
        rows: in order of execution; the last is the file's header, if there is a file.
        total_bytes: the size of the packed file, the sum of all rows; None without packed form.
        not_packable: why there is none, or None.
    """

    model: str
    rows: tuple[Row, ...]
    total_bytes: int | None
    not_packable: str | None

    @property
    def parameters(self) -> Counts:
        """All parameters by precision."""
        return sum((row.parameters for row in self.rows), NOTHING)

    @property
    def macs(self) -> Counts:
        """All multiply-adds of one sample by precision."""
        return sum((row.macs for row in self.rows), NOTHING)

    @property
    def macs_by_precision(self) -> dict[str, int]:
        """All multiply-adds of one sample by the bits of weight and input, the most first.

        >>> import torch
        >>> from coarsegrad.inspect import summary
        >>> from coarsegrad.models import mlp
        >>> summary(mlp(width=8), torch.zeros(1, 1, 28, 28)).macs_by_precision
        {'W1A32': 6272, 'W1A1': 144}
        """
        found = Counter[str]()
        for row in self.rows:
            if row.precision is not None:
                found[row.precision] += row.macs.total
        return dict(found.most_common())

    @property
    def float32_bytes(self) -> int:
        """The same parameters as float32."""
        return 4 * self.parameters.total

    @property
    def ratio(self) -> float | None:
        """How many times smaller the packed file is than the float32 parameters."""
        return self.float32_bytes / self.total_bytes if self.total_bytes else None

    @property
    def binary_share(self) -> float:
        """The share of multiply-adds that are 1-bit times 1-bit."""
        return self.macs.one_bit / self.macs.total if self.macs.total else 0.0

    def __str__(self) -> str:
        header, body = self._cells(plain.count)
        lines = plain.table(header, body, left=3)
        rule = "-" * max(map(len, lines))
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        for sentence in self._notes():
            lines += plain.wrapped(sentence)
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> Table:
        """Return a rich table with exact numbers, the totals in its footer."""
        from rich.table import Table

        header, body = self._cells("{:,}".format)
        table = Table(
            title=self.model, caption="\n".join(self._notes()), show_footer=True,
            caption_justify="left",
        )  # fmt: skip
        for i, (name, total) in enumerate(zip(header, body[-1], strict=True)):
            table.add_column(
                name, total, justify="left" if i < 3 else "right", overflow="fold"
            )  # fmt: skip
        for row in body[:-1]:
            table.add_row(*row)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists, strings and numbers."""
        return {
            "model": self.model,
            "rows": [
                {**asdict(row), "shape": None if row.shape is None else list(row.shape),
                 "precision": row.precision}
                for row in self.rows
            ],
            "parameters": asdict(self.parameters),
            "macs": asdict(self.macs),
            "macs_by_precision": self.macs_by_precision,
            "binary_share": self.binary_share,
            "float32_bytes": self.float32_bytes,
            "total_bytes": self.total_bytes,
            "ratio": self.ratio,
            "not_packable": self.not_packable,
        }  # fmt: skip

    def _cells(self, number: Any) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows, totals last, without a column that is empty."""
        k_bit = self.parameters.k_bit > 0
        header = ["layer", "kind", "output", "in/w", "1-bit", *["k-bit"] * k_bit, "32-bit",
                  "MACs", "kernel", "bytes"]  # fmt: skip
        whole = Row("total", "", None, parameters=self.parameters, macs=self.macs,
                    bytes=self.total_bytes)  # fmt: skip
        body = []
        for row in (*self.rows, whole):
            shape = "" if row.shape is None else "x".join(map(str, row.shape)) or "1"
            bits = f"{row.input_bits or 32}/{row.weight_bits or 32}" if row.macs.total else ""
            held = row.parameters
            counts = [held.one_bit, *[held.k_bit] * k_bit, held.floats, row.macs.total]
            body.append([
                row.name, row.kind, shape, "" if row is whole else bits,
                *(number(n) if n else "" for n in counts), row.kernel or "",
                "?" if row.bytes is None else f"{row.bytes:,}",
            ])  # fmt: skip
        return header, body

    def _notes(self) -> list[str]:
        total = self.macs.total
        shares = [
            f"{name} {plain.count(n)} ({n / total:.1%})"
            for name, n in self.macs_by_precision.items()
        ]
        notes = ["MACs of a sample: " + ", ".join(shares)] if shares else []
        size = f"float32 parameters: {self.float32_bytes:,} bytes"
        if self.total_bytes is not None:
            size += f"; packed file: {self.total_bytes:,} bytes, {self.ratio:.1f}x smaller"
        notes.append(size)
        if self.not_packable is not None:
            notes.append(f"not packable: {self.not_packable}")
        return notes
