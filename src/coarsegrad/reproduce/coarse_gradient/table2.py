"""Table 2: LeNet-5 on MNIST, 2- and 4-bit activations, three coarse derivatives, float weights.

The paper says neither which LeNet-5 nor how long: here both widths in use, a cosine schedule over
at most 12 epochs, three seeds. The test images are looked at once a run, after its last epoch;
rates are chosen on held-out training images, with as many trials for each derivative.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from coarsegrad.reproduce.coarse_gradient import trainings
from coarsegrad.reproduce.coarse_gradient.trainings import LAYOUTS, STES
from coarsegrad.reproduce.ledger import Ledger
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

FILTERS = trainings.FILTERS
"""Keys and values of ``Request.only``."""
TRAINS = True

PAPER = {
    ("float", "none"): 99.45,
    ("W32A2", "relu"): 99.10, ("W32A4", "relu"): 99.38,
    ("W32A2", "reverse_exp"): 99.17, ("W32A4", "reverse_exp"): 99.46,
    ("W32A2", "log_tailed"): 99.24, ("W32A4", "log_tailed"): 99.36,
}  # fmt: skip
"""Validation accuracy in percent, by precision and coarse derivative."""

# Twice the standard deviation of a share of 99.1 % among 10,000 images: a difference between two
# networks that one more test set could undo.
TOLERANCE = 0.19

_NAMES = {
    "none": "float",
    "relu": "ReLU",
    "reverse_exp": "reverse exp.",
    "log_tailed": "log-tailed",
}

Scores = dict[tuple[str, str, str], list[float]]
"""Test accuracies in percent, one a seed, by layout, precision and coarse derivative."""


def run(request: Request) -> Report:
    """Train what is missing (about 5 minutes a wide run, 3 a narrow one) and compare."""
    seeds = request.seeds_or(1 if request.quick else trainings.SEEDS)
    done, norms = trainings.finish(request, trainings.runs(request, seeds))
    files: tuple[Path, ...] = (done.path, norms.path)
    rows = rows_of(done, request)
    found = scores(rows)
    return Report(
        "Section 8.2, Table 2: LeNet-5 on MNIST, test accuracy in percent",
        (*compared(found, quick=request.quick), *ordered(found, request)),
        tuple(file for file in files if file.exists()),
        _notes(rows, request),
    )


def rows_of(done: Ledger, request: Request) -> list[dict[str, str]]:
    """Return finished runs of this table that ``only`` lets pass, of today's settings."""
    rows = []
    for row in done.rows:
        one = trainings.run_of(row)
        today = row == trainings.finished(done, one, quick=request.quick)
        if one.layout in LAYOUTS and request.wants(**vars(one)) and today:
            rows.append(row)
    return rows


def scores(rows: list[dict[str, str]]) -> Scores:
    """Return the accuracies of these runs."""
    found: Scores = {}
    for row in rows:
        place = (row["layout"], row["precision"], row["ste"])
        found.setdefault(place, []).append(100 * float(row["accuracy"]))
    return found


def compared(found: Scores, *, quick: bool) -> list[Comparison]:
    """Return a comparison for each number of the table and each width."""
    rows = []
    for layout in LAYOUTS:
        for (precision, ste), paper in PAPER.items():
            ours = found.get((layout, precision, ste), [])
            verdict: Verdict = "not run"
            if ours and not quick:
                verdict = "holds" if statistics.mean(ours) >= paper - TOLERANCE else "differs"
            bits = "float" if precision == "float" else f"{precision[-1]} bits, {_NAMES[ste]}"
            rows.append(Comparison(f"{paper:.2f} ({bits})", f"{layout}: {told(ours)}", verdict,
                                   f"Table 2, {bits}"))  # fmt: skip
    return rows


def told(values: list[float]) -> str:
    """Return a mean with its spread and number of seeds.

    >>> told([99.1, 99.3])
    '99.20 (99.10 to 99.30, 2 seeds)'
    """
    if not values:
        return "no run"
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    mean = statistics.mean(values)
    return f"{mean:.2f} ({min(values):.2f} to {max(values):.2f}, {len(values)} seeds)"


def ordered(found: Scores, request: Request) -> list[Comparison]:
    """Compare the paper's order of the derivatives: the other two slightly above the ReLU."""
    gaps = {}
    for layout in LAYOUTS:
        for precision in ("W32A2", "W32A4"):
            means = [statistics.mean(found.get((layout, precision, ste)) or [0.0]) for ste in STES]
            if all(means):
                gaps[layout, precision] = [mean - means[0] for mean in means[1:]]
    if not gaps:
        return []
    each = "; ".join(
        f"{layout} {precision[-1]} bits: {first:+.2f}, {second:+.2f}"
        for (layout, precision), (first, second) in gaps.items()
    )
    holds = all(gap > 0 for pair in gaps.values() for gap in pair)
    verdict: Verdict = "not run" if request.quick else "holds" if holds else "differs"
    claim = "reverse exp. and log-tailed are slightly better than the ReLU"
    return [Comparison(claim, f"means above the ReLU's: {each}", verdict, "Section 8.2")]


def _notes(rows: list[dict[str, str]], request: Request) -> tuple[str, ...]:
    if request.quick:
        return ("A quick run: 1 epoch on 2,000 images, to see that everything works.",)
    seconds = [float(row["seconds"]) for row in rows]
    epochs = sorted({int(row["epochs"]) for row in rows})
    return (
        "The paper does not say which LeNet-5 it trains, for how many epochs, or with which weight "
        f"decay; ours: both widths, {', '.join(map(str, epochs)) or 'no'} epochs, cosine schedule, "
        "float weights, one thread a run.",
        f"A number holds if our mean is at most {TOLERANCE} below it, twice the standard deviation "
        "of a test on 10,000 images.",
        f"{len(rows)} runs in the table, {sum(seconds) / 60:.0f} minutes of one core.",
    )
