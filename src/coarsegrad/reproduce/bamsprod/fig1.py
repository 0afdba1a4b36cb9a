"""Figure 1: trajectories of a float and a binary model on the Shubert surface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request
from coarsegrad.reproduce.threads import one_thread

if TYPE_CHECKING:
    from coarsegrad.theory.landscape import Landscape, Paths

    Found = dict[tuple[str, bool], Paths]

DIMENSION, STEPS = 12, 300
# Rates at which the float model has settled after 300 steps, each rule's alike.
RATES = {"SGD, momentum": 1e-5, "Adam": 1e-2, "AMSGrad": 1e-2, "BAMSProd": 1e-2}
NOTES = (
    "The paper says: Shubert function, weights of both models under Adam, projected on a plane. It "
    f"does not say the rest; here {DIMENSION} weights uniform in [-1, 1], a random plane, scale 4, "
    f"mean|w| sign(w) with the gradient straight through, {STEPS} steps, rates "
    + ", ".join(f"{name} {rate:g}" for name, rate in RATES.items())
    + ", the latent weights kept in [-1, 1] for all; that is a surface of ours, not the paper's.",
)


def run(request: Request) -> Report:
    """Run four optimizers from 200 starts; quick, Adam and BAMSProd from 30."""
    import torch

    from coarsegrad.theory import landscape

    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    count = request.seeds_or(30 if request.quick else 200)
    names = ("Adam", "BAMSProd") if request.quick else tuple(RATES)
    land = landscape.Landscape(landscape.random_plane(DIMENSION, 0))
    found: Found = {}
    with recorded(request.out / "fig1.csv") as record, one_thread():
        start = landscape.starts(count, DIMENSION)
        for name in names:
            for binary in (False, True):
                paths = landscape.descend(land, start, _make(name), STEPS, binary=binary)
                found[name, binary] = paths
                record.add(*_rows(name, binary, paths))
                request.show(f"  {name}, {'binary' if binary else 'float'}: {_told(paths)}")
        best = landscape.reachable(land, torch.linspace(0, 1, 101).double())
    picture = _draw(land, found, names, request.out / "fig1.png")
    title = f"Fig. 1: the Shubert surface, {count} starts, least value {landscape.LEAST:.1f}"
    return Report(title, _compared(found, names, best), (record.path, picture), NOTES)


def _make(name: str) -> Callable[[list[Any]], Any]:
    import torch

    from coarsegrad.optim import BAMSProd

    lr = RATES[name]
    return {
        "SGD, momentum": lambda p: torch.optim.SGD(p, lr=lr, momentum=0.9),
        "Adam": lambda p: torch.optim.Adam(p, lr=lr),
        "AMSGrad": lambda p: torch.optim.Adam(p, lr=lr, amsgrad=True),
        "BAMSProd": lambda p: BAMSProd(p, lr=lr, per="channel"),
    }[name]


def _rows(name: str, binary: bool, paths: Paths) -> list[dict[str, Any]]:
    return [
        {"optimizer": name, "model": "binary" if binary else "float", "start": i,
         "x": float(p[0]), "y": float(p[1]), "loss": float(loss), "least_seen": float(least)}
        for i, (p, loss, least) in enumerate(
            zip(paths.points[-1], paths.losses[-1], paths.losses.min(0).values, strict=True))
    ]  # fmt: skip


def _told(paths: Paths) -> str:
    low, middle, high = (float(paths.losses[-1].quantile(q)) for q in (0.25, 0.5, 0.75))
    return f"loss at the end {middle:.1f} [{low:.1f}, {high:.1f}]"


def _compared(found: Found, names: tuple[str, ...], best: float) -> tuple[Comparison, ...]:
    medians = {key: float(paths.losses[-1].median()) for key, paths in found.items()}
    worse = all(medians[name, True] > medians[name, False] for name in names)
    gap = {name: medians[name, True] - medians[name, False] for name in names}
    told = "; ".join(
        f"{name}: float {_told(found[name, False])}, binary {_told(found[name, True])}"
        for name in names
    )
    # A method that cured it would close most of the gap to its own float model.
    cured = gap["BAMSProd"] < gap["Adam"] / 2
    return (
        Comparison("the binary model drops into highly suboptimal points more easily",
                   f"{told}; the best binary point has {best:.1f}",
                   "holds" if worse else "differs", "Fig. 1"),
        Comparison("(implied) it is Adam that does, and BAMSProd does not",
                   "medians, binary minus float: "
                   + ", ".join(f"{name} {value:+.1f}" for name, value in gap.items()),
                   "holds" if cured else "does not hold", "Fig. 1, section 1"),
    )  # fmt: skip


def _draw(land: Landscape, found: Found, names: tuple[str, ...], path: Path) -> Path:
    """Draw the surface and both models' trajectories from three starts, a panel an optimizer."""
    import torch

    from coarsegrad.theory.landscape import shubert

    figure, panels = canvas(2.2 * len(names), 2.7, columns=len(names))
    axis = torch.linspace(-8, 8, 130, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    for axes, name in zip(panels, names, strict=True):
        axes.pcolormesh(axis.numpy(), axis.numpy(), shubert(grid).numpy(), cmap="Greys_r",
                        shading="auto", rasterized=True)  # fmt: skip
        for binary in (True, False):
            points = found[name, binary].points[:, :3]
            colour = COLOURS[1] if binary else COLOURS[5]
            for i in range(points.shape[1]):
                axes.plot(*points[:, i].T, color=colour, linewidth=1.1,
                          label=("binary" if binary else "float") if not i else None)  # fmt: skip
                axes.plot(*points[-1, i], "o", color=colour, markeredgecolor="black", markersize=6)
                axes.plot(*points[0, i], "x", color=colour, markersize=6)
        axes.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal", xlabel="4 o1 . w")
        axes.set_title(name, fontsize=10)
        axes.grid(visible=False)
    panels[0].set_ylabel("4 o2 . w")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    return save(figure, path)
