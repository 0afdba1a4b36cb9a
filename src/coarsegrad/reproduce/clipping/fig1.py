"""Figure 1: the smoothness along training against the gradient's norm, log-log.

The paper draws an LSTM on Penn Treebank. Ours: a tanh recurrent network on one batch, and the
perceptron of ``mnist_mlp`` with float and with binary weights.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.clipping import rnn
from coarsegrad.reproduce.drawing import canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request
from coarsegrad.reproduce.threads import one_thread

if TYPE_CHECKING:
    from coarsegrad.train import Recipe

MNIST = ("MNIST float", "MNIST binary")
WHERE = "Fig. 1"
_QUICK = {"epochs": 1, "limit": 3_200, "smoothness": 5}
_LONG = {"epochs": 1, "limit": 20_000, "smoothness": 6}
NOT_TESTED = (
    "Fig. 1: an LSTM on Penn Treebank, smoothness against gradient norm",
    "the paper's trainings on CIFAR-10 and ImageNet, clipped against plain SGD",
    "clipped SGD under bounded noise (A5) is faster than SGD by any factor",
)
NOTES = (
    "The smoothness is that along the step: a lower bound of the Hessian's norm, far below it "
    "where steps are small and smooth. The envelope's constants are of these points, not proved.",
    "Of the binary network it is the smoothness of the coarse gradient as a function of the latent "
    "weights: the gradient jumps where a sign flips.",
    "MNIST: gradients of the first 1,000 training images, batch norms on the batch's statistics, "
    "float64; the recipe's rules, AMSGrad for the float network and BAMSProd for the binary one.",
)

Rows = dict[str, list[dict[str, Any]]]

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Train and measure: four recurrent networks and two perceptrons, minutes; quick, seconds."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    steps, every, scales = (100, 4, (1.0,)) if request.quick else (400, 5, (1.0, 1.8))
    mark = "quick-" if request.quick else ""
    found: Rows = {}
    with one_thread(), recorded(request.out / f"{mark}fig1.csv") as record:
        for scale in scales:
            for clipped in (True, False):
                training = rnn.Training(clipped, scale)
                for row in rnn.follow(training, steps, every, request.show):
                    found.setdefault(str(training), []).append(row)
                    record.add(row)
        for name in MNIST:
            found[name] = mnist(request, name)
            record.add(*found[name])
    picture = draw(found, request.out / f"{mark}fig1.png")
    rows = [compared(name, of, quick=request.quick) for name, of in found.items()]
    rows += [Comparison(paper, "", "not tested yet", WHERE) for paper in NOT_TESTED]
    title = "Figure 1: smoothness along training against the gradient's norm"
    return Report(title, tuple(rows), (record.path, picture), NOTES)


def recipe_of(name: str, *, quick: bool) -> Recipe:
    """Return what an MNIST panel trains."""
    from coarsegrad.train import read_recipe, recipe_path

    changes: dict[str, Any] = {**(_QUICK if quick else _LONG), "twin": name == "MNIST float"}
    return read_recipe(recipe_path("mnist_mlp"), changes)


def mnist(request: Request, name: str) -> list[dict[str, Any]]:
    """Train with ``smoothness`` on; a finished training is not repeated."""
    from coarsegrad.train import train

    mark = "quick-" if request.quick else ""
    folder = request.out / "runs" / f"{mark}{name.replace(' ', '-')}"
    request.show(f"  {name}")
    train(recipe_of(name, quick=request.quick), folder, resume=(folder / "last.ckpt").exists())
    with (folder / "smoothness.csv").open(newline="", encoding="utf-8") as file:
        return [_row(name, row) for row in csv.DictReader(file)]


def _row(name: str, row: dict[str, str]) -> dict[str, Any]:
    values = {key: float(row[key]) if row[key] else None
              for key in ("loss", "gradient", "smoothness", "hessian", "length")}  # fmt: skip
    values["step_length"] = values.pop("length")
    return {"setting": name, "step": int(row["step"]), **values}


def points(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the norms and smoothness of the rows that were measured."""
    kept = [row for row in rows if row["smoothness"] is not None]
    return [row["gradient"] for row in kept], [row["smoothness"] for row in kept]


def compared(name: str, rows: list[dict[str, Any]], *, quick: bool) -> Comparison:
    """Compare the correlation, and tell both fits."""
    from coarsegrad.theory import envelope, least_squares, log_correlation

    norms, smoothness = points(rows)
    r = log_correlation(norms, smoothness)
    above, middle = envelope(norms, smoothness), least_squares(norms, smoothness)
    ours = (
        f"{name}: correlation of the logarithms {r:+.2f} over {len(norms)} points; envelope "
        f"({above.l0:.3g}, {above.l1:.3g}), least squares ({middle.l0:.3g}, {middle.l1:.3g})"
    )
    shares = [row["smoothness"] / row["hessian"] for row in rows
              if row["hessian"] and row["smoothness"] is not None]  # fmt: skip
    if shares:
        ours += f"; median smoothness / |Hessian| {sorted(shares)[len(shares) // 2]:.3f}"
    return Comparison(
        "smoothness grows with the gradient's norm, strongly correlated", ours,
        "not run" if quick else ("holds" if r > 0.5 else "differs"), WHERE,
    )  # fmt: skip


def draw(found: Rows, path: Path) -> Path:
    """Draw a panel a training, the colour the iteration, with both fits."""
    columns = 2 if len(found) == 4 else min(3, len(found))
    rows = math.ceil(len(found) / columns)
    figure, panels = canvas(3.3 * columns, 0.3 + 3 * rows, columns, rows)
    for axes, (name, of) in zip(panels, found.items(), strict=False):
        scatter(axes, of)
        axes.set_title(name, fontsize=10)
    for axes in panels[len(found) :]:
        axes.remove()
    figure.suptitle("dark: early in training, bright: late", x=0.01, ha="left", fontsize=9)
    figure.supylabel("smoothness along the step", fontsize=10)
    return save(figure, path)


def scatter(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draw the points of one training, late ones bright, and the fits."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from coarsegrad.theory import envelope, least_squares

    norms, smoothness = points(rows)
    steps = [row["step"] for row in rows if row["smoothness"] is not None]
    axes.scatter(norms, smoothness, c=steps, cmap="viridis", s=9)
    line = sorted(norms)
    for fit, style in ((envelope, "-"), (least_squares, "--")):
        l0, l1 = fit(norms, smoothness)
        heights = [l0 + l1 * g for g in line]
        shown = [(g, y) for g, y in zip(line, heights, strict=True) if y > 0]
        axes.plot(*zip(*shown, strict=True), style, color="#D55E00", linewidth=1.3,
                  label=fit.__name__.replace("_", " "))  # fmt: skip
    low = min(s for s in smoothness if s > 0)
    axes.set(xscale="log", yscale="log", xlabel="norm of the gradient",
             ylim=(low / 1.5, 2 * max(smoothness)))  # fmt: skip
    for axis, values in ((axes.xaxis, norms), (axes.yaxis, smoothness)):
        wide = max(values) > 30 * min(v for v in values if v > 0)
        axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8)
