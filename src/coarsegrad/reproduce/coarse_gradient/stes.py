"""Which coarse derivatives train the network of section 8.1: Assumption 2, and who fails it."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.parallel import Watch, together
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

if TYPE_CHECKING:
    from pathlib import Path

    from coarsegrad.theory.two_layer import Outcome

TRAIN = ("ReLU", "ReverseExp", "LogTailedReLU", "ClippedReLU")
FAIL = ("Identity", "ClippedIdentity", "Sigmoid")
WHERE = "Assumption 2, Theorem 3.1"


def run(request: Request) -> Report:
    """Run it at theta = pi/2 with 4 bits: 20 seeds, 4,000 iterations; quick, 5 and 600."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    seeds, most = request.seeds_or(5 if request.quick else 20), 600 if request.quick else 4000
    names = TRAIN + FAIL
    found: dict[str, Outcome] = {}
    with recorded(request.out / "stes.csv") as record:
        calls = [functools.partial(_outcome, name, seeds, most) for name in names]
        for i, outcome in together(calls):
            found[names[i]] = outcome
            record.add(*_rows(names[i], outcome, most))
            request.show(f"  {names[i]}: {_told(outcome)}")
        record.rows.sort(key=lambda row: (names.index(row["ste"]), row["seed"]))
    picture = _draw(found, names, request.out / "stes.png")
    setting = f"theta = pi/2, 4 bits, {seeds} seeds, at most {most:,} iterations, W^0 ~ N(0, 1)."
    rows = [_row(name, found[name], trains=name in TRAIN) for name in names]
    title = "Which coarse derivatives reach loss 0 on the data of section 8.1"
    return Report(title, tuple(rows), (record.path, picture), (setting,))


def _outcome(name: str, seeds: int, most: int, watch: Watch) -> Outcome:
    from coarsegrad import ste
    from coarsegrad.theory.two_layer import Setting, experiment

    return experiment(Setting(ste=getattr(ste, name)()), seeds, most, watch)


def _rows(name: str, outcome: Outcome, most: int) -> Iterator[dict[str, Any]]:
    """Return the rows of the table, one a seed; no iterations where loss 0 was not reached."""
    numbers = zip(outcome.iterations.tolist(), outcome.loss.tolist(), strict=True)
    for seed, (t, loss) in enumerate(numbers):
        yield {
            "ste": name, "seed": seed, "iterations": t if t >= 0 else None, "most": most,
            "loss": loss,
        }  # fmt: skip


def _told(outcome: Outcome) -> str:
    reached = [t for t in outcome.iterations.tolist() if t >= 0]
    text = f"{len(reached)} of {len(outcome.iterations)} seeds at loss 0"
    if reached:
        text += f", median of these {statistics.median(reached):.0f} iterations"
    left = [x for x in outcome.loss.tolist() if x > 0]
    if left:
        text += f", loss of the others {min(left):.2f} to {max(left):.2f}"
    return text


def _row(name: str, outcome: Outcome, *, trains: bool) -> Comparison:
    reached = int(outcome.reached.sum())
    paper = f"{name} {'meets' if trains else 'fails'} Assumption 2" + (", converges" * trains)
    holds = reached == (len(outcome.iterations) if trains else 0)
    return Comparison(paper, _told(outcome), "holds" if holds else "differs", WHERE)


def _draw(found: dict[str, Outcome], names: Sequence[str], path: Path) -> Path:
    """Draw the final loss of each seed."""
    figure, (axes,) = canvas(8, 3)
    for place, name in enumerate(names):
        loss = found[name].loss.tolist()
        # Spread sideways, so that equal losses are seen to be many.
        across = [place + 0.5 * ((i + 0.5) / len(loss) - 0.5) for i in range(len(loss))]
        axes.plot(across, loss, ".", color=COLOURS[0 if name in TRAIN else 1], markersize=7)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_ylabel("loss at the end, each seed")
    axes.set_ylim(bottom=-0.05)
    axes.grid(visible=False, axis="x")
    return save(figure, path)
