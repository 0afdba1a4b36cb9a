"""Findings: what ``check`` says, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from coarsegrad.inspect import plain

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Finding:
    """One mistake in one place.

    Attributes:
        layer: the module's name, or the operation's; the model's class if it is all of it.
        rule: the rule's name.
        consequence: what it leads to.
        cure: what to do.
        source: the paper or the issue where it was met.
    """

    layer: str
    rule: str
    consequence: str
    cure: str
    source: str


@dataclass(frozen=True)
class NotApplied:
    """A rule that could not be applied, and why."""

    rule: str
    reason: str


@final
@dataclass(frozen=True, repr=False)
class Findings:
    """What ``check`` found: iterable, with a length, and false where nothing was found."""

    found: tuple[Finding, ...]
    not_applied: tuple[NotApplied, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        number = len(self.found)
        lines = ["nothing found" if not number else f"{number} finding{'s' * (number > 1)}"]
        for same in self._alike():
            first = same[0]
            layers = ", ".join(finding.layer for finding in same)
            lines += ["", *plain.wrapped(f"{first.rule}: {layers}", then="    ")]
            lines += plain.wrapped(first.consequence, "  ", "  ")
            lines += plain.wrapped(first.cure, "  cure: ", "  ")
            lines += plain.wrapped(first.source, "  source: ", "  ")
        lines += [""] * bool(self.found and self.not_applied)
        reasons = dict.fromkeys(skipped.reason for skipped in self.not_applied)
        for reason in reasons:
            rules = ", ".join(s.rule for s in self.not_applied if s.reason == reason)
            lines += plain.wrapped(f"not applied, since {reason}: {rules}", then="  ")
        return "\n".join(lines)

    __repr__ = __str__

    def table(self) -> Table:
        """Return a rich table, a row for each finding."""
        from rich.table import Table

        table = Table("layer", "rule", "consequence", "cure", "source", show_lines=True)
        for finding in self.found:
            table.add_row(*asdict(finding).values())
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything as dicts, lists and strings."""
        return {
            "findings": [asdict(finding) for finding in self.found],
            "not_applied": [asdict(skipped) for skipped in self.not_applied],
        }

    def _alike(self) -> list[list[Finding]]:
        """Return the findings, those that differ in the layer only together."""
        groups: dict[tuple[str, ...], list[Finding]] = {}
        for finding in self.found:
            key = (finding.rule, finding.consequence, finding.cure)
            groups.setdefault(key, []).append(finding)
        return list(groups.values())
