"""Figure 3: iterations to zero loss, and the norm of the weights, against the classes' angle.

The experiment of section 8.1. The paper does not print its W^0, its angles or its noise levels;
ours are N(0, 1), multiples of pi/16, and 0.05 and 0.1.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from coarsegrad.reproduce.coarse_gradient.fig3_rows import Cell, compared
from coarsegrad.reproduce.drawing import boxes, canvas, legend, save
from coarsegrad.reproduce.parallel import Watch, together
from coarsegrad.reproduce.record import Record, recorded
from coarsegrad.reproduce.report import Report, Request

NOTES = (
    "The paper prints neither its initial weights nor its angles nor its noise levels: here "
    "W^0 ~ N(0, 1), theta a multiple of pi/16, noise of standard deviation 0.05 and 0.1, drawn "
    "once. All in float64; a run ends when the loss is exactly 0.",
)


@final
@dataclass(frozen=True)
class Plan:
    """What is run: seeds, angles as multiples of pi/16, and iterations at most by noise."""

    seeds: int
    sixteenths: tuple[int, ...]
    most: dict[float, int]


FULL = Plan(30, tuple(range(1, 9)), {0.0: 100_000, 0.05: 10_000, 0.1: 5_000})
QUICK = Plan(5, (2, 4, 6, 8), {0.0: 3_000, 0.05: 1_500, 0.1: 1_500})


def run(request: Request) -> Report:
    """Run it: about 10 minutes of two cores; quick, half a minute with 5 seeds and 4 angles."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    plan = QUICK if request.quick else FULL
    seeds = request.seeds_or(plan.seeds)
    start = time.perf_counter()
    with recorded(request.out / "fig3.csv") as record:
        cells = _run(plan, seeds, record, request.show)
    files = [record.path, *draw(cells, request.out)]
    shorter = "; a quick run" if request.quick else ""
    seconds = f"{seeds} seeds, {time.perf_counter() - start:.0f} s{shorter}."
    return Report(
        "Section 8.1, Fig. 3: iterations to loss 0 and |W| against theta",
        compared(cells, quick=request.quick),
        tuple(files),
        (*NOTES, seconds),
    )


def _run(
    plan: Plan, seeds: int, record: Record, show: Callable[[str], None]
) -> dict[tuple[float, int], Cell]:
    keys = [(noise, n) for noise in plan.most for n in sorted(plan.sixteenths)]
    calls = [functools.partial(_cell, noise, n, seeds, plan.most[noise]) for noise, n in keys]
    cells = {}
    for i, cell in together(calls):
        cells[keys[i]] = cell
        record.add(*cell.rows())
        show(f"  {cell.sentence()}")
    record.rows.sort(key=lambda row: (row["noise"], row["theta"], row["seed"]))
    return {key: cells[key] for key in keys}


def _cell(noise: float, sixteenths: int, seeds: int, most: int, watch: Watch) -> Cell:
    from coarsegrad.theory.two_layer import Setting, experiment

    found = experiment(Setting(sixteenths * math.pi / 16, noise), seeds, most, watch)
    return Cell(
        noise, sixteenths, most, found.iterations.tolist(), found.loss.tolist(),
        found.norm.tolist(), found.start.tolist(),
    )  # fmt: skip


def draw(cells: dict[tuple[float, int], Cell], out: Path) -> list[Path]:
    """Draw both halves of the figure from the cells; return the PNG files."""
    noises = sorted({noise for noise, _ in cells})
    angles = sorted({n for _, n in cells})
    return [
        _panel(cells, noises, angles, "iterations", out / "fig3-iterations.png"),
        _panel(cells, noises, angles, "norm", out / "fig3-norm.png"),
    ]


def _panel(
    cells: dict[tuple[float, int], Cell], noises: Sequence[float], angles: Sequence[int],
    what: str, path: Path,
) -> Path:  # fmt: skip
    from matplotlib import ticker

    figure, (axes,) = canvas(8, 4.4)
    values = [[_ended(cells[noise, n], what) for n in angles] for noise in noises]
    names = [f"noise {noise:g}" if noise else "no noise" for noise in noises]
    boxes(axes, values, [_fraction(n) for n in angles], names)
    axes.set_xlabel("angle θ between the classes' planes")
    if what == "iterations":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        axes.set_ylabel("iterations to loss 0")
        _mark_missing(axes, cells, noises, angles)
    else:
        axes.set_ylabel("|W| at loss 0")
        start = [value for cell in cells.values() for value in cell.start]
        axes.axhline(sum(start) / len(start), color="#2b3440", linewidth=1, linestyle=(0, (4, 3)),
                     label="mean at the start")  # fmt: skip
    legend(axes, len(noises) + 1)
    return save(figure, path)


def _ended(cell: Cell, what: str) -> list[float]:
    """Return the numbers of the seeds that reached loss 0."""
    numbers: Sequence[Any] = getattr(cell, what)
    return [x for x, t in zip(numbers, cell.iterations, strict=True) if t >= 0]


def _mark_missing(axes: Any, cells: Any, noises: Sequence[float], angles: Sequence[int]) -> None:
    """Say above a box how many seeds are not in it."""
    from coarsegrad.reproduce.drawing import COLOURS

    width = 0.8 / len(noises)
    for s, noise in enumerate(noises):
        for place, n in enumerate(angles):
            cell = cells[noise, n]
            if missing := cell.iterations.count(-1):
                at = place + (s - (len(noises) - 1) / 2) * width
                axes.plot(at, cell.most, marker="^", color=COLOURS[s], markersize=5)
                axes.annotate(f"{missing}", (at, cell.most), (0, 5), ha="center", fontsize=9,
                              textcoords="offset points", color=COLOURS[s])  # fmt: skip
    if any(cell.iterations.count(-1) for cell in cells.values()):
        axes.plot([], [], "^", color="#2b3440", markersize=5, label="seeds still above 0")


def _fraction(sixteenths: int) -> str:
    """Return a multiple of pi/16 in words.

    >>> _fraction(6), _fraction(8), _fraction(1)
    ('3π/8', 'π/2', 'π/16')
    """
    divisor = math.gcd(sixteenths, 16)
    above = sixteenths // divisor
    return f"{'' if above == 1 else above}π/{16 // divisor}"
