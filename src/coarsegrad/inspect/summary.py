"""summary: a model layer by layer, with the bytes of the packed file to the byte."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, final

from torch import Tensor, nn

from coarsegrad.errors import PackError
from coarsegrad.inspect import count, plain
from coarsegrad.inspect.count import NOTHING, Counts
from coarsegrad.inspect.graph import graph_of
from coarsegrad.inspect.sizes import FileSizes, Kernel, file_sizes, weight_bytes
from coarsegrad.inspect.watch import Call, Shape, calls, evaluation_copy, same_random_numbers

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
                {**asdict(row), "shape": None if row.shape is None else list(row.shape)}
                for row in self.rows
            ],
            "parameters": asdict(self.parameters),
            "macs": asdict(self.macs),
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
        macs = self.macs
        named = (("1-bit", macs.one_bit), ("k-bit", macs.k_bit), ("float", macs.floats))
        shares = [
            f"{name} {plain.count(n)} ({n / macs.total:.1%})"
            for name, n in named
            if macs.total and (n or name != "k-bit")
        ]
        notes = ["MACs of a sample: " + ", ".join(shares)] if shares else []
        size = f"float32 parameters: {self.float32_bytes:,} bytes"
        if self.total_bytes is not None:
            size += f"; packed file: {self.total_bytes:,} bytes, {self.ratio:.1f}x smaller"
        notes.append(size)
        if self.not_packable is not None:
            notes.append(f"not packable: {self.not_packable}")
        return notes


def summary(model: nn.Module, x: Tensor) -> Summary:
    """Return a table of ``model``: precisions, parameters, multiply-adds, packed bytes.

    The bytes are those of the file that ``deploy.pack(model, x, path)`` writes; scale, bias,
    batch norm and sign are in the row of the layer whose threshold they become. Nothing is
    written, and the model is left as it is: a copy runs once, on at most two samples of ``x``.

    Args:
        model: any module with one input; one without packed form has no ``total_bytes``.
        x: an example batch, (N, ...).

    Raises:
        InputError: the model cannot be copied, or does not accept ``x``.

    >>> import torch
    >>> from coarsegrad.models import small_cnn
    >>> found = summary(small_cnn(), torch.zeros(1, 1, 28, 28))
    >>> found.parameters
    Counts(one_bit=93088, k_bit=0, floats=468)
    >>> found.rows[0].kernel, found.rows[3].kernel, found.rows[3].bytes == 64 * 32 * 9 / 8 + 128
    ('float', 'bits', True)
    """
    with same_random_numbers(model):
        return _summary(model, x)


def _summary(model: nn.Module, x: Tensor) -> Summary:
    twin = evaluation_copy(model, "summary")
    x = x[:2] if isinstance(x, Tensor) and x.dim() else x
    made = calls(twin, x, "summary")
    sizes: FileSizes | None = None
    not_packable: str | None = None
    try:
        sizes = file_sizes(twin, x)
    except PackError as error:
        not_packable = str(error)
    inputs = _input_bits(twin)
    seen: set[Tensor] = set()
    rows = [_row(call, inputs, sizes, seen, len(x)) for call in made]
    rows += _left_over(twin, seen, 0 if sizes else None)
    if sizes is not None:
        named = {row.name for row in rows}
        others = [name for name in sizes.tensors if name not in named]
        rows += [Row(name, "function", bytes=sizes.tensors[name]) for name in others]
        rows.append(Row(HEADER, "", bytes=sizes.header))
    total = None if sizes is None else sizes.total
    return Summary(type(model).__name__, tuple(rows), total, not_packable)


def _row(
    call: Call,
    inputs: dict[str, int | None],
    sizes: FileSizes | None,
    seen: set[Tensor],
    samples: int,
) -> Row:
    own = getattr(call.module, "input_quantizer", None)
    input_bits = inputs.get(call.name, None if own is None else int(own.bits))
    macs = count.multiply_adds(call, input_bits)
    row = Row(
        call.name,
        type(call.module).__name__,
        None if call.output is None else call.output[1:],
        input_bits,
        count.weight_bits(call.module),
        count.parameters(call.module, seen),
        macs // samples,
    )
    if sizes is not None:
        return replace(
            row, kernel=sizes.kernels.get(call.name), bytes=sizes.tensors.get(call.name, 0)
        )
    if macs.total and call.input is not None:
        return replace(row, bytes=weight_bytes(call.module, call.input))
    return row if not row.parameters.total else replace(row, bytes=None)


def _input_bits(model: nn.Module) -> dict[str, int | None]:
    """Return the bits that reach each layer, where torch.fx can tell; a layer knows its own."""
    try:
        return graph_of(model).input_bits()
    except PackError:
        return {}


def _left_over(model: nn.Module, seen: set[Tensor], size: int | None) -> list[Row]:
    """Return a row for each module with parameters that no call has used."""
    rows = []
    for name, module in model.named_modules():
        unused = count.parameters(module, seen)
        if unused.total:
            kind = f"{type(module).__name__}, unused"
            rows.append(Row(name or type(module).__name__, kind, parameters=unused, bytes=size))
    return rows
