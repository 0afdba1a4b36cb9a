"""What ``convert`` did to a model, or would do, and the way back."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from torch import nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.edits import Edit

_WIDTH = 80


@dataclass(frozen=True)
class Change:
    """One row of a plan: a module by its dotted name, what it was, what it is, and why."""

    name: str
    before: str
    after: str
    why: str


@final
class Plan:
    """The result of ``convert``: ``model``, ``changes``, what was ``kept``, and ``undo()``.

    ``str(plan)`` is a table of at most 80 columns, ``to_dict()`` the same for JSON.

    Args:
        model: the model, converted in place unless the plan is a dry run.
        changes: what was changed, in the order of the table.
        kept: what was left as it is although one might expect a change, and why.
        edits: the reversible edits that were applied, or None for a dry run.

    >>> import torch
    >>> from coarsegrad.nn import convert
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4),
    ...     torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> plan = convert(net)
    >>> plan.changes[0].name, plan.changes[0].after
    ('2', '1-bit weights, 1-bit inputs')
    >>> plan.undo() is net, type(net[2]) is torch.nn.Linear
    (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        changes: Iterable[Change],
        kept: Iterable[Change],
        edits: Sequence[Edit] | None,
    ) -> None:
        self.model = model
        self.changes = tuple(changes)
        self.kept = tuple(kept)
        self.dry_run = edits is None
        self.undone = False
        self.edits = tuple(edits or ())

    def undo(self) -> nn.Module:
        """Turn the model back into the float model, with the weights of now; return it.

        Layers become torch's again, inserted norms go, activations, forwards and the training of
        frozen biases come back. Only the converted object itself is turned back, no copy of it.

        Raises:
            ConvertError: the plan is a dry run or was undone before, or the model was changed
                since in a place that the plan would have to touch; then nothing is changed.
        """
        if self.dry_run:
            raise ConvertError(
                "undo needs a plan that has changed its model, got a dry run; "
                "call convert without dry_run=True first"
            )
        if self.undone:
            raise ConvertError(
                "undo needs a plan that is in force, got one that was undone before; "
                "call convert again for a new plan"
            )
        for edit in self.edits:
            edit.check()
        for edit in reversed(self.edits):
            edit.undo()
        self.undone = True
        return self.model

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as lists, dicts, strings and bools."""
        return {
            "model": type(self.model).__name__,
            "dry_run": self.dry_run,
            "undone": self.undone,
            "changes": [asdict(change) for change in self.changes],
            "kept": [asdict(change) for change in self.kept],
        }

    def __str__(self) -> str:
        state = " (dry run: nothing was changed)" if self.dry_run else ""
        state = " (undone)" if self.undone else state
        lines = [f"convert {type(self.model).__name__}{state}", ""]
        rows = [(c.name, f"{c.before} -> {c.after}", c.why) for c in self.changes]
        lines += _table(("changed", "from -> to", "why"), rows)
        if self.kept:
            rows = [(c.name, c.before, c.why) for c in self.kept]
            lines += ["", *_table(("left as it is", "what", "why"), rows)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Plan of {type(self.model).__name__}: {len(self.changes)} changes>"


def _table(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> list[str]:
    """Return the lines of a table of three columns that wrap at 80 characters."""
    name, what = (
        min(limit, max(len(row[i]) for row in [head, *rows])) for i, limit in ((0, 28), (1, 22))
    )
    widths = (name, what, _WIDTH - name - what - 4)
    lines = _row(head, widths) + _row(tuple("-" * width for width in widths), widths)
    for row in rows:
        lines += _row(row, widths)
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [textwrap.wrap(c, w) or [""] for c, w in zip(cells, widths, strict=True)]
    lines = []
    for index in range(max(map(len, wrapped))):
        parts = [part[index] if index < len(part) else "" for part in wrapped]
        lines.append("  ".join(p.ljust(w) for p, w in zip(parts, widths, strict=True)).rstrip())
    return lines
