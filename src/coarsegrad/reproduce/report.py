"""What an item of a paper is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

Verdict = Literal[
    "holds", "holds after repair", "does not hold", "differs", "not run", "not tested yet"
]
"""What became of a statement.

``holds after repair`` where the printed form fails and a mended one holds; ``does not hold`` where
a counterexample stands beside it; ``differs`` where a number is another; ``not run`` where this run
was too short to tell; ``not tested yet`` where no code here could.
"""


def silent(text: str) -> None:
    """Say nothing: where progress goes unless a request says otherwise."""


@final
@dataclass(frozen=True)
class Request:
    """How an item is to be run.

    Args:
        out: an existing folder, for CSV and PNG files.
        quick: a form of seconds to a minute, smaller where it must be, which says so.
        seeds: how many seeds, 0 to seeds - 1; None takes the item's own number.
        show: called with a line of progress now and then.
        only: run nothing but what has one of these values for each of these keys, such as
            ``{"ste": ("relu",)}``; an item's ``FILTERS`` has its keys.

    Raises:
        ValueError: ``seeds`` is below 1, or ``out`` is no folder.

    >>> Request(out=Path("."), quick=True).seeds_or(30)
    30
    """

    out: Path
    quick: bool = False
    seeds: int | None = None
    show: Callable[[str], None] = silent
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(
                f"Request needs seeds of 1 or more, got {self.seeds}; None takes the item's own"
            )
        if not self.out.is_dir():
            raise ValueError(f"Request needs out to be a folder, got {str(self.out)!r}; make it")

    def seeds_or(self, own: int) -> int:
        """Return the number of seeds: the one asked for, else the item's own."""
        return own if self.seeds is None else self.seeds

    def wants(self, **values: object) -> bool:
        """Return whether ``only`` lets these values pass.

        >>> request = Request(Path("."), only={"ste": ("relu", "identity")})
        >>> request.wants(ste="relu", bits=2), request.wants(ste="sigmoid", bits=2)
        (True, False)
        """
        return all(str(values[key]) in wanted for key, wanted in self.only.items())


@final
@dataclass(frozen=True)
class Comparison:
    """One statement of a paper beside what was measured.

    Attributes:
        paper: the statement, or the paper's number.
        ours: what came out here, with its spread and number of seeds.
        verdict: what became of it, see ``Verdict``.
        where: the table or figure of the paper, and the row.
    """

    paper: str
    ours: str
    verdict: Verdict
    where: str = ""


@final
@dataclass(frozen=True)
class Report:
    """What an item found.

    Attributes:
        title: what was reproduced, in words.
        rows: the comparisons, in the paper's order.
        files: what was written, CSV first.
        notes: differences of our setting from the paper's, and what a quick run left out.
        failure: why the run stopped early or diverged, or None. Its CSV then ends in
            ``.partial.csv``, see ``recorded``.
    """

    title: str
    rows: tuple[Comparison, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdict of each row."""
        return tuple(row.verdict for row in self.rows)
