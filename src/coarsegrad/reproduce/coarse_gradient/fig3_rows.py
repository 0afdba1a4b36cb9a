"""What Fig. 3 says in words, and whether runs agree."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from coarsegrad.reproduce.report import Comparison, Verdict

WHERE = "Section 8.1, Fig. 3"


@final
@dataclass(frozen=True)
class Cell:
    """The runs of one noise and one angle, a number for each seed.

    Attributes:
        noise: its standard deviation.
        sixteenths: the angle, in pi/16.
        most: the iterations that a run had at most.
        iterations: to loss 0, or -1.
        loss: at the end.
        norm: |W| at the end.
        start: |W| at the start.
    """

    noise: float
    sixteenths: int
    most: int
    iterations: list[int]
    loss: list[float]
    norm: list[float]
    start: list[float]

    @property
    def reached(self) -> int:
        """How many seeds reached loss 0."""
        return sum(t >= 0 for t in self.iterations)

    def median(self) -> float:
        """Return the median iterations to loss 0; inf where half the seeds did not reach it."""
        return statistics.median(t if t >= 0 else math.inf for t in self.iterations)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return the rows of the table, one a seed; no iterations where loss 0 was not reached."""
        for seed, t in enumerate(self.iterations):
            yield {
                "noise": self.noise, "theta": self.sixteenths * math.pi / 16, "seed": seed,
                "iterations": t if t >= 0 else None, "most": self.most, "loss": self.loss[seed],
                "norm": self.norm[seed], "start_norm": self.start[seed],
            }  # fmt: skip

    def sentence(self) -> str:
        """Return the cell in words."""
        middle = self.median()
        told = f"median {middle:.0f} iterations" if middle < math.inf else "no median"
        return (
            f"theta {self.sixteenths}/16 pi, noise {self.noise:g}: {self.reached} of "
            f"{len(self.iterations)} seeds at loss 0 within {self.most:,}, {told}, "
            f"|W| {statistics.median(self.norm):.1f}"
        )


Cells = Mapping[tuple[float, int], Cell]


def compared(cells: Cells, *, quick: bool) -> tuple[Comparison, ...]:
    """Return the paper's statements on Fig. 3 beside these runs.

    A quick run's limits are too low to say that a seed does not reach loss 0.
    """
    clean = [cell for (noise, _), cell in cells.items() if not noise]
    straight = [cell for cell in clean if cell.sixteenths == 8]
    acute = [cell for cell in clean if cell.sixteenths < 8]
    noisy = [cell for (noise, _), cell in cells.items() if noise]
    return (
        _reaches("converges to a global minimum with zero loss", straight, quick),
        _reaches("still does when the subspaces form an acute angle", acute, quick),
        _reaches("and with two levels of Gaussian noise", noisy, quick),
        _falls("converges faster as theta grows to pi/2", clean, "iterations"),
        _falls("to a smaller weight norm", clean, "norm"),
    )


def _reaches(paper: str, cells: Sequence[Cell], quick: bool) -> Comparison:
    reached = sum(cell.reached for cell in cells)
    seeds = sum(len(cell.iterations) for cell in cells)
    ours = f"{reached} of {seeds} runs at loss 0"
    if short := [cell for cell in cells if cell.reached < len(cell.iterations)]:
        ours += "; not all at " + ", ".join(
            f"{cell.sixteenths}/16 pi with noise {cell.noise:g} ({cell.reached} of "
            f"{len(cell.iterations)} within {cell.most:,})"
            for cell in short
        )
    return Comparison(
        paper,
        ours,
        _verdict(reached == seeds, bool(cells) and (reached == seeds or not quick)),
        WHERE,
    )


def _falls(paper: str, cells: Sequence[Cell], what: str) -> Comparison:
    """Compare medians over theta: falling up to pi/4, and lower yet above it.

    Above 3 pi/8 neighbouring angles differ by less than the seeds do.
    """
    cells = sorted(cells, key=lambda cell: cell.sixteenths)
    middles = [
        cell.median() if what == "iterations" else statistics.median(cell.norm) for cell in cells
    ]
    low = [m for m, cell in zip(middles, cells, strict=True) if cell.sixteenths <= 4]
    high = [m for m, cell in zip(middles, cells, strict=True) if cell.sixteenths >= 6]
    falls = all(a > b for a, b in itertools.pairwise(low))
    holds = falls and bool(low and high) and max(high) < low[-1]
    digits = 0 if what == "iterations" else 1
    told = ", ".join(
        f"{m:.{digits}f} at {cell.sixteenths}/16 pi" for m, cell in zip(middles, cells, strict=True)
    )
    return Comparison(paper, f"medians {told}", _verdict(holds, len(cells) > 1), WHERE)


def _verdict(holds: bool, enough: bool) -> Verdict:
    if not enough:
        return "not run"
    return "holds" if holds else "differs"
