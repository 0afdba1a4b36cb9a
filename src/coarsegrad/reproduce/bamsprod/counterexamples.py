"""Theorems 1 and 2: thirteen rules on Adam's counterexamples, as printed and as repaired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import Record, recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

if TYPE_CHECKING:
    from coarsegrad.theory.online import Mark, Toy

    Found = dict[tuple[str, str], tuple[Mark, ...]]

REAL = ("reddi1", "reddi2", "repaired1")
QUICK = (
    "SGD", "AdaGrad", "Adam", "AMSGrad", "AMSBound", "BAMSProd", "BAMSProd, literal",
    "BAMSProd, literal, 1/0 = 0",
)  # fmt: skip
DRAWN = ("Adam", "AMSGrad", "SGD", "AMSBound", "BAMSProd", "BAMSProd, literal")
PRINTED = ("SGD", "AdaGrad", "Adam", "AMSGrad", "BAMSProd")
SMALL, NEAR = 0.05, 0.9
NOTES = (
    "eta_t = 0.1 / sqrt(t), no bias correction, w_1 = 1 = alpha (binary: alpha = 0.5), rho_min = "
    "0.05; w is the last iterate, R_T / T against the comparator -1 (-alpha).",
    "The literal c* takes the error of w_t, as Algorithm 1 reads, and so is 0 at w_1 = alpha; "
    "'1/0 = 0' takes m / sqrt(0) for no step, the other lets eps bound it.",
    "The proofs' appendix is not published: the repaired sequence is AdaBound's Theorem 1.",
)

SHORT = {
    "reddi1": "Reddi 1", "reddi2": "Reddi 2", "repaired1": "Theorem 1, repaired",
    "binary": "Reddi 2, binary",
}  # fmt: skip

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Run every rule on four toys for T = 1e6, some 4 minutes; quick, eight rules for T = 1e5."""
    from coarsegrad.theory.online import TOYS

    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    steps = 100_000 if request.quick else 1_000_000
    toys = {name: make() for name, make in TOYS.items()}
    found: Found = {}
    with recorded(request.out / "counterexamples.csv") as record:
        for name, toy in toys.items():
            _all_rules(name, toy, steps, request, record, found)
        printed = _as_printed(record)
    picture = _draw(found, toys, request.out / "counterexamples.png")
    rows = (printed, *(_fails(name, toys[name], found) for name in toys),
            _escape(found, steps), *_repairs(found, toys, steps))  # fmt: skip
    title = f"Theorems 1 and 2: average regret after T = {steps:,} steps"
    return Report(title, rows, (record.path, picture), NOTES)


def _all_rules(
    name: str, toy: Toy, steps: int, request: Request, record: Record, found: Found
) -> None:
    from coarsegrad.theory.online import Setting, play, twins

    for rule, twin in twins(toy.binary or 1.0).items():
        if request.quick and rule not in QUICK:
            continue
        found[name, rule] = play(twin, toy, steps, Setting(betas=toy.betas))
        record.add(*(_numbers(name, rule, mark) for mark in found[name, rule]))
        last = found[name, rule][-1]
        request.show(f"  {name}, {rule}: R_T/T {last.average:.4f}, w {last.w:+.3f}")


def _numbers(toy: str, rule: str, mark: Mark) -> dict[str, Any]:
    return {"toy": toy, "rule": rule, "t": mark.t, "average_regret": mark.average, "w": mark.w,
            "mean_w_since_last_row": mark.recent}  # fmt: skip


def _as_printed(record: Record) -> Comparison:
    """Run Theorem 1's own sequence, with both readings of alpha_{t+1} / alpha_t, from w_1 = 0."""
    from coarsegrad.theory.online import Setting, play, printed1, twins

    ends = {}
    for ratio in (1.0, 2.0):
        toy = printed1(ratio=ratio)
        for rule in PRINTED:
            marks = play(twins()[rule], toy, 100_000, Setting(betas=toy.betas), start=0.0)
            ends[ratio, rule] = marks[-1].w
            record.add(*(_numbers(f"printed, a2 = {ratio:g} a1", rule, mark) for mark in marks))
    others = [rule for rule in PRINTED if rule != "Adam"]
    ours = (
        "not convex: in step 2, f(0) = 0 > (f(-1) + f(1)) / 2 = -1. Adam steps a1 / sqrt((1 - "
        "b2) a1^2) down and a2 / sqrt((1 - b2)(a2^2 + b2 a1^2)) up, the smaller for any a2: it "
        f"goes to -1, the optimum (w = {ends[1.0, 'Adam']:+.3f} with a2 = a1, "
        f"{ends[2.0, 'Adam']:+.3f} with 2 a1). With a2 = 2 a1 it is the others that end at +1: "
        + ", ".join(f"{rule} {ends[2.0, rule]:+.3f}" for rule in others)
    )
    shown = ends[1.0, "Adam"] < -NEAR and ends[2.0, "Adam"] < 0 < ends[2.0, "SGD"]
    paper = "Adam has non-zero average regret on a convex sequence, SGD and AdaGrad have not"
    return Comparison(paper, ours, "does not hold" if shown else "differs", "Theorem 1, printed")


def _fails(name: str, toy: Toy, found: Found) -> Comparison:
    last = found[name, "Adam"][-1]
    stuck = last.average > NEAR * toy.gap and last.w > 0.99
    good: Verdict = "holds after repair" if name == "repaired1" else "holds"
    where = "Theorem 1, repaired" if name == "repaired1" else "Theorem 2, and Reddi et al."
    return Comparison(
        f"Adam does not converge: {toy.title}",
        f"R_T/T = {last.average:.4f} of a gap of {toy.gap:.4f}, w = {last.w:+.3f}",
        good if stuck else "does not hold", where,
    )  # fmt: skip


def _escape(found: Found, steps: int) -> Comparison:
    """Compare the paper's: the average regret of SGD(M) and AdaGrad goes to 0."""
    told, holds = [], True
    for rule in ("SGD", "AdaGrad"):
        marks = [found[name, rule] for name in REAL]
        told.append(f"{rule} " + ", ".join(f"{m[-1].average:.4f} ({m[-1].w:+.2f})" for m in marks))
        holds = holds and all(m[-1].average < m[0].average for m in marks)
    return Comparison(
        "SGD and AdaGrad do not suffer from this: their average regret goes to 0",
        f"R_T/T (w) on Reddi 1, Reddi 2, repaired: {'; '.join(told)}",
        "holds" if holds else "does not hold", "Section 3",
    )  # fmt: skip


def _repairs(found: Found, toys: dict[str, Toy], steps: int) -> list[Comparison]:
    """Compare Algorithm 1 with the coherent c*, AMSGrad beside it, and c* as printed."""

    def told(rule: str) -> str:
        marks = [found[name, rule][-1] for name in toys]
        return ", ".join(f"{m.average:.4f} ({m.w:+.2f})" for m in marks)

    def small(rule: str) -> bool:
        return all(found[name, rule][-1].average < SMALL for name in REAL)

    stuck = all(found[name, "BAMSProd, literal, 1/0 = 0"][-1].average > NEAR * toys[name].gap
                and found[name, "BAMSProd, literal"][-1].average > NEAR * toys[name].gap
                for name in REAL)  # fmt: skip
    ams: Verdict = "holds" if small("AMSGrad") else "does not hold"
    names = "R_T/T (w) on Reddi 1, Reddi 2, repaired, binary: "
    return [
        Comparison("AMSGrad's regret falls (not claimed here; R_T/T < 0.05 at T = 1e6)",
                   names + told("AMSGrad"), ams if steps >= 1_000_000 else "not run",
                   "Reddi et al."),
        Comparison("BAMSProd avoids Adam's non-convergence: c* relative to |w|",
                   names + told("BAMSProd"),
                   "holds after repair" if small("BAMSProd") else "does not hold", "Algorithm 1"),
        Comparison("the same, c* as printed, w_1 = alpha",
                   f"{names}{told('BAMSProd, literal')}; with 1/0 = 0: "
                   f"{told('BAMSProd, literal, 1/0 = 0')}: linear regret on the first three",
                   "does not hold" if stuck else "differs", "Algorithm 1"),
    ]  # fmt: skip


def _draw(found: Found, toys: dict[str, Toy], path: Path) -> Path:
    """Draw R_t / t against t, a panel a toy."""
    figure, panels = canvas(8.8, 2.6, columns=len(toys))
    for axes, (name, toy) in zip(panels, toys.items(), strict=True):
        for colour, rule in zip(COLOURS, DRAWN, strict=False):
            marks = found[name, rule]
            axes.plot([m.t for m in marks], [max(m.average, 1e-5) for m in marks], color=colour,
                      linewidth=1.4, label=rule,
                      linestyle=(0, (4, 2)) if rule.endswith("literal") else "-")  # fmt: skip
        axes.axhline(toy.gap, color="#8a94a0", linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set(xscale="log", yscale="log", xlabel="t")
        axes.set_title(SHORT[name], fontsize=10, loc="left")
    panels[0].set_ylabel("R_t / t (dotted: staying at +1)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(DRAWN), frameon=False,
                  fontsize=9)  # fmt: skip
    return save(figure, path)
