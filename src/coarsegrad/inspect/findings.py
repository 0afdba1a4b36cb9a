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


@dataclass(frozen=True)
class Measured:
    """Assumption 2 of Long, Yin, Xin 2020 on what a batch gives one quantized ReLU.

    Attributes:
        layer: the module's name.
        ste: the coarse derivative.
        bound: the largest input B, in steps.
        delta: inf g' on (0, B].
        delta_tilde: sup g' on (0, B].
        holds: whether g is 0 for x <= 0 and delta > 0.
    """

    layer: str
    ste: str
    bound: float
    delta: float
    delta_tilde: float
    holds: bool


@final
@dataclass(frozen=True, repr=False)
class Findings:
    """What ``check`` found: iterable, with a length, and false where nothing was found."""

    found: tuple[Finding, ...]
    not_applied: tuple[NotApplied, ...] = ()
    measured: tuple[Measured, ...] = ()

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
        lines += self._coarse_gradients()
        lines += [""] * bool((self.found or self.measured) and self.not_applied)
        reasons = dict.fromkeys(skipped.reason for skipped in self.not_applied)
        for reason in reasons:
            rules = ", ".join(s.rule for s in self.not_applied if s.reason == reason)
            lines += plain.wrapped(f"not applied, since {reason}: {rules}", then="  ")
        return "\n".join(lines)

    __repr__ = __str__

    def _coarse_gradients(self) -> list[str]:
        """Return a table of what was measured, 80 columns at most."""
        if not self.measured:
            return []
        layers = [plain.short(m.layer, 28) for m in self.measured]
        stes = [plain.short(m.ste, 24) for m in self.measured]
        one, two = (max(map(len, column)) for column in (["layer", *layers], ["g", *stes]))
        lines = [
            "", "coarse gradients on this batch, g of x in steps, 0 < x <= B (Assumption 2):",
            f"  {'layer':{one}}  {'g':{two}} {'B':>7}  inf g'  sup g'  holds",
        ]  # fmt: skip
        for m, layer, ste in zip(self.measured, layers, stes, strict=True):
            numbers = f"{m.bound:7.4g}  {m.delta:6.3g}  {m.delta_tilde:6.3g}"
            lines.append(f"  {layer:{one}}  {ste:{two}} {numbers}  {'yes' if m.holds else 'no'}")
        return lines

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
            "measured": [asdict(measured) for measured in self.measured],
        }

    def _alike(self) -> list[list[Finding]]:
        """Return the findings, those that differ in the layer only together."""
        groups: dict[tuple[str, ...], list[Finding]] = {}
        for finding in self.found:
            key = (finding.rule, finding.consequence, finding.cure)
            groups.setdefault(key, []).append(finding)
        return list(groups.values())
