"""Figure 6: the norm of the weights against the epoch, without weight decay.

The paper draws VGG-11 and ResNet-20 on CIFAR-10 over 200 epochs. Ours are the same networks at a
quarter and half of the width over 7 epochs, their float twins, and the trainings of table 2 with
the weight decay taken away. The recipes of 200 epochs are shipped (``cifar10_vgg11_w32a4``,
``cifar10_resnet20_w32a4``) and not run here.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from coarsegrad.reproduce.coarse_gradient import trainings
from coarsegrad.reproduce.coarse_gradient.trainings import CIFAR, LAYOUTS
from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.ledger import Ledger
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

FILTERS = trainings.FILTERS_OF_ALL
"""Keys and values of ``Request.only``."""
TRAINS = True

SEEDS = 1
DECAY = 0.0
NOTES = (
    "The paper's figure is of 200 epochs of VGG-11 and ResNet-20; ours is of 7 of narrower ones, "
    "on images that were JPEG in between, and of 8 of LeNet-5.",
    "Behind each hidden layer stands a norm, so the loss does not change with the length of its "
    "weights and every gradient, coarse or not, is orthogonal to them: plain steps without decay "
    "lengthen them whatever the activation, the float network's included. Growth is no evidence "
    "for Lemma 5.5; weight decay turns it round.",
)
_TITLES = {"vgg11": "VGG-11, width 16", "resnet20": "ResNet-20, width 8"}
_LINES = {"W32A2": "-", "W32A4": "--", "float": ":"}

Norms = dict[trainings.Run, list[float]]
"""The norm before the first epoch and after each, by run."""


def run(request: Request) -> Report:
    """Train what is missing (3 to 5 minutes a LeNet-5, 8 to 13 another run), and draw."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    layouts = (*LAYOUTS, *CIFAR)
    wanted = trainings.runs(request, request.seeds_or(SEEDS), DECAY, layouts)
    _, table = trainings.finish(request, wanted)
    norms = read(table, wanted)
    picture = draw(norms, request.out / f"{'quick-' if request.quick else ''}fig6.png")
    return Report(
        "Section 8.3, Fig. 6: the norm of all weights against the epoch",
        (compared(norms, quick=request.quick),) if norms else (),
        (table.path, picture),
        NOTES,
    )


def read(table: Ledger, wanted: list[trainings.Run]) -> Norms:
    """Return the norms of these runs, in the order of the epochs."""
    found: Norms = {}
    for row in table.rows:
        one = trainings.run_of(row, DECAY)
        if float(row["weight_decay"]) == DECAY and one in wanted:
            found.setdefault(one, []).append(float(row["norm"]))
    return found


def compared(norms: Norms, *, quick: bool) -> Comparison:
    """Compare the paper's statement with the epochs in which the norm grew."""
    steps = [b > a for line in norms.values() for a, b in pairwise(line)]
    longer = sum(line[-1] > line[0] for line in norms.values())
    verdict: Verdict = (
        "holds" if longer == len(norms) and sum(steps) > len(steps) / 2 else "differs"
    )
    largest = max(max(line) / line[0] for line in norms.values())
    return Comparison(
        "the norm of the weights is bounded, and generally increases in epochs",
        f"it grew in {sum(steps)} of {len(steps)} epochs, from start to end in {longer} of "
        f"{len(norms)} runs; at most {largest:.2f} times the start",
        "not run" if quick else verdict,
        "Section 8.3, Fig. 6",
    )


def draw(norms: Norms, path: Path) -> Path:
    """Draw one line a run, a panel a network that has runs; return the PNG file."""
    drawn = {one.layout for one in norms}
    layouts = [layout for layout in (*CIFAR, *LAYOUTS) if layout in drawn]
    figure, panels = canvas(2 + 3.5 * max(1, len(layouts)), 4.2, columns=max(1, len(layouts)))
    stes = list(dict.fromkeys(("none", *trainings.STES)))
    for axes, layout in zip(panels, layouts, strict=False):
        for one, line in norms.items():
            if one.layout == layout:
                first = one.seed == min(r.seed for r in norms if r.layout == layout)
                axes.plot(range(len(line)), line, _LINES[one.precision], linewidth=1.6,
                          color=COLOURS[stes.index(one.ste)],
                          label=_name(one) if first else None)  # fmt: skip
        axes.set_title(_TITLES.get(layout, f"LeNet-5 {layout}"))
        axes.set_xlabel("epoch")
        axes.set_ylabel("norm of all weights")
    if norms:
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return save(figure, path)


def _name(one: trainings.Run) -> str:
    words = {"relu": "ReLU", "reverse_exp": "reverse exp.", "log_tailed": "log-tailed"}
    return "float" if one.precision == "float" else f"{one.precision[-1]} bits, {words[one.ste]}"
