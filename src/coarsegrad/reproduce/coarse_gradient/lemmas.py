"""Lemmas 5.1, 5.3, 5.5 and Proposition 1 along runs on two annuli, with computed constants."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.parallel import Watch, together
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

if TYPE_CHECKING:
    from pathlib import Path

    from coarsegrad.theory.two_layer import Monitored

LEMMAS = {"lemma51": "5.1", "lemma53": "5.3", "lemma55": "5.5"}


class Case(NamedTuple):
    """A run: density, STE, bits, and theta in pi/16 (8: orthogonal, as the lemmas need)."""

    density: Any
    ste: str
    bits: int
    sixteenths: int = 8


CASES = (
    Case("area", "ReLU", 4), Case("area", "ReLU", 2), Case("area", "LogTailedReLU", 2),
    Case("area", "ReverseExp", 2), Case("polar", "ReLU", 4), Case("polar", "ReverseExp", 2),
    Case("polar", "ReLU", 4, 4),
)  # fmt: skip
QUICK = (CASES[0], CASES[4], CASES[6])

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Run each case to loss 0 on seed 1; quick, three of them on coarser cells."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    cases = QUICK if request.quick else CASES
    cells = {"radii": 11, "angles": 80} if request.quick else {"radii": 24, "angles": 160}
    found: dict[Case, Monitored] = {}
    with recorded(request.out / "lemmas.csv") as record:
        for i, ended in together([functools.partial(_follow, case, cells) for case in cases]):
            found[cases[i]] = ended
            record.add(_numbers(cases[i], ended))
            request.show(f"  {' '.join(map(str, cases[i]))}: {len(ended.steps)} iterations")
    picture = _draw(found[cases[0]], request.out / "lemmas.png")
    straight = {case: ended for case, ended in found.items() if case.sixteenths == 8}
    slanted = {case: ended for case, ended in found.items() if case.sixteenths < 8}
    rows = (
        *(_row(lemma, straight) for lemma in LEMMAS),
        _proposition(straight),
        _monotone("own |w_ji| never decreases, orthogonal classes", straight, wanted=True),
        _monotone("(not claimed) the same at theta = pi/4", slanted, wanted=False),
    )
    notes = (
        "Two annuli 1 < |x| < 2, C_p in closed form, polar quadrature of "
        f"{cells['radii']} x {cells['angles']} cells, k = 24, eta = 1, W^0 of seed 1. The samples "
        "of section 8.1 themselves are points, whose C_p is infinite: there 5.3, 5.5 and "
        "Proposition 1 say nothing.",
    )
    title = "Section 5: the lemmas along runs, least ratio of left to right side"
    return Report(title, rows, (record.path, picture), notes)


def _follow(case: Case, cells: Mapping[str, int], watch: Watch) -> Monitored:
    from coarsegrad import ste
    from coarsegrad.theory import two_layer as t

    planes = t.planes(case.sixteenths * math.pi / 16)
    laws = [t.annulus(basis, case.density, **cells) for basis in planes]
    net = t.TwoLayer(t.block_readout(2, 24), case.bits, getattr(ste, case.ste)())
    return t.monitor(net, laws, t.initial(2)[1], most=3000, watch=watch)


def _numbers(case: Case, ended: Monitored) -> dict[str, Any]:
    """Return the row of the table."""
    row: dict[str, Any] = {
        **case._asdict(), "iterations": len(ended.steps), "loss_0": ended.reached,
    }  # fmt: skip
    for lemma in LEMMAS:
        row[f"{lemma}_ratio"], row[f"{lemma}_verdict"] = ended.worst(lemma)
    proposition = ended.proposition1
    row["decreases"] = ended.decreases
    row["sum_squares"] = proposition and proposition.total
    row["bound"] = proposition and proposition.bound
    row["telescoped"] = proposition and proposition.telescoped
    return row


def _row(lemma: str, found: Mapping[Case, Monitored]) -> Comparison:
    checks = [ended.worst(lemma) for ended in found.values()]
    ratios = [check.ratio for check in checks]
    ours = f"{len(ratios)} runs, least ratio {min(ratios):.2f} to {max(ratios):.2f}"
    inside = sum(check.verdict == "within quadrature" for check in checks)
    if inside:
        ours += f"; below 1 in {inside} by what the cells explain"
    violated = any(check.verdict == "violated" for check in checks)
    name = LEMMAS[lemma]
    return Comparison(f"Lemma {name}", ours, "differs" if violated else "holds", f"Lemma {name}")


def _proposition(found: Mapping[Case, Monitored]) -> Comparison:
    made = [ended.proposition1 for ended in found.values() if ended.proposition1 is not None]
    loose = [p.bound / p.total for p in made]
    ours = f"bound {min(loose):.0f} to {max(loose):.0f} times the sum of |G|^2"
    holds = bool(made) and all(p.holds for p in made)
    return Comparison(
        "Proposition 1", ours, "holds" if holds else "differs", "Proposition 1, Lemma 5.5"
    )


def _monotone(paper: str, found: Mapping[Case, Monitored], *, wanted: bool) -> Comparison:
    decreases = sum(ended.decreases for ended in found.values())
    unit_steps = sum(24 * len(ended.steps) for ended in found.values())
    ours = f"{decreases:,} decreases in {unit_steps:,} steps of units"
    holds = (decreases == 0) == wanted
    return Comparison(paper, ours, "holds" if holds else "differs", "Lemma 5.5")


def _draw(ended: Monitored, path: Path) -> Path:
    """Draw the ratios of one run against the iteration."""
    figure, (axes,) = canvas(7.6, 3.2)
    for colour, (lemma, name) in zip(COLOURS, LEMMAS.items(), strict=False):
        ratios = [getattr(step, lemma).ratio for step in ended.steps]
        axes.plot(ratios, color=colour, linewidth=1.3, label=f"Lemma {name}")
    axes.axhline(1, color="#2b3440", linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("left side / right side, least")
    legend(axes, 3)
    return save(figure, path)
