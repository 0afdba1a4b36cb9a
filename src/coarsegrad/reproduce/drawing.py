"""Figures of this room: one style, colours that the colour-blind tell apart, small PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.errors import require
from coarsegrad.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, in the order of use."""

INK, GRID = "#2b3440", "#e3e7ec"
DPI = 100
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10,
    "axes.linewidth": 0.7, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID,
    "axes.axisbelow": True,
}  # fmt: skip


def canvas(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many inches and its axes, row by row.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    mpl = require("matplotlib", "report", "a figure of reproduce")
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(rows * columns)]
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all; return its path.

    Raises:
        OSError: the folder is missing or not writable.
    """
    mpl = require("matplotlib", "report", "a figure of reproduce")
    with mpl.rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return path


def legend(axes: Axes, columns: int) -> None:
    """Draw the legend above the axes, where no curve can be."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=9,
        handlelength=1.6,
    )  # fmt: skip


def boxes(
    axes: Axes, values: Sequence[Sequence[Sequence[float]]], places: Sequence[str],
    names: Sequence[str],
) -> None:  # fmt: skip
    """Draw groups of box plots: values[series][place], whiskers at 1.5 interquartile ranges.

    Args:
        axes: where.
        values: the numbers of each box; an empty box is left out.
        places: labels along the axis.
        names: labels of the series, for the legend.
    """
    count = len(values)
    width = 0.8 / count
    for s, series in enumerate(values):
        colour = COLOURS[s]
        at = [place + (s - (count - 1) / 2) * width for place, v in enumerate(series) if v]
        full = [v for v in series if v]
        lines: dict[str, Any] = {"color": colour, "linewidth": 1.1}
        if full:
            axes.boxplot(
                full, positions=at, widths=0.82 * width, patch_artist=True, manage_ticks=False,
                boxprops={"facecolor": colour + "40", "edgecolor": colour}, whiskerprops=lines,
                capprops=lines, medianprops={**lines, "linewidth": 2.2},
                flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
            )  # fmt: skip
        axes.plot([], [], color=colour, linewidth=6, alpha=0.6, label=names[s])
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.grid(visible=False, axis="x")
