"""Theorem 4 and Corollary 4: their right sides, as printed and corrected, beside R_T of runs."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import Record, recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

if TYPE_CHECKING:
    from coarsegrad.theory.online import Bound

RULES = (
    "SGD", "AdaGrad", "Adam", "AMSGrad", "AdaBound", "AMSBound", "BAMSProd", "BAMSProd, constant",
    "BAMSProd, literal sum",
)  # fmt: skip
TERMS = ("distance", "momentum", "gradients", "quantization")
Found = list[tuple[str, str, "Bound"]]
NOTES = (
    "beta_1t = beta1 (beta1 / sqrt(beta2))^(t-1), as Corollary 4 asks; L_inf the Lipschitz "
    "constant of the losses on F, D_inf = 2. 'printed [alpha]' reads the third term's "
    "alpha_{1:T} as the scale, 'printed [g]' as the gradients, whose unit is right; the larger "
    "of both counts.",
    "The corrected bound has s = max sqrt(v / vtilde): a c_u of 0 makes it infinite, so that it "
    "says nothing of the literal c* at w_1 = alpha.",
    "The quadratic example is of AMSGrad, BAMSProd without its projection.",
)

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Trace four problems for T = 1e5, the literal one for 1e6, some 2 minutes; quick, 1e4."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    steps = 10_000 if request.quick else 100_000
    found: Found = []
    with recorded(request.out / "bounds.csv") as record:
        for toy in ("reddi1", "reddi2", "repaired1", "binary"):
            _suite(toy, steps, record, found)
            request.show(f"  {toy}: corrected bound {_worst(found)}")
        literal = _literal(100_000 if request.quick else 1_000_000, record)
        quadratic = _quadratic(10_000, record, found)
    picture = _draw(found, request.out / "bounds.png")
    failed = [name for name, kind, bound in found if bound.verdict == "violated"]
    rows = (
        _printed_theorem(literal),
        _printed_corollary(quadratic),
        Comparison(
            "Theorem 4, corrected (a sum of quantization errors, no O(sqrt T) promised)",
            f"{len(found)} runs, {len(failed)} violated; R_T is {_worst(found)} of it at most",
            "does not hold" if failed else "holds after repair", "Theorem 4",
        ),
    )  # fmt: skip
    return Report("Theorem 4 and Corollary 4 along runs", rows, (record.path, picture), NOTES)


def _suite(name: str, steps: int, record: Record, found: Found) -> None:
    from coarsegrad.theory.online import TOYS, Setting, corrected, trace, twins

    toy = TOYS[name]()
    setting = Setting(betas=toy.betas, beta1_decay="power")
    for rule in RULES:
        bound = corrected(trace(twins(toy.binary or 1.0)[rule], toy, steps, setting))
        found.append((f"{name}, {rule}", "corrected", bound))
        record.add(_numbers(name, rule, steps, "corrected", bound))


def _literal(steps: int, record: Record) -> dict[str, Bound]:
    """Evaluate Theorem 4 as printed on Reddi 2 under the literal c*, eta = 1, w_1 = alpha."""
    from coarsegrad.theory.online import Setting, bamsprod, printed_theorem, reddi2, trace

    toy = reddi2()
    twin = functools.partial(bamsprod, cstar="literal", own_step=True, stay=True)
    setting = Setting(eta=1.0, betas=toy.betas, beta1_decay="power")
    ended = trace(twin, toy, steps, setting)
    found = {
        "printed [alpha]": printed_theorem(ended, 10.0, alpha=1.0),
        "printed [g]": printed_theorem(ended, 10.0),
    }
    for kind, bound in found.items():
        record.add(_numbers("reddi2", "literal, eta = 1", steps, f"Theorem 4, {kind}", bound))
    return found


def _quadratic(steps: int, record: Record, found: Found) -> dict[str, Bound]:
    """Evaluate Corollary 4 on AMSGrad with f = |x - (0.9, 0.1)|^2 / 2, x = mean|w| sign(w)."""
    import numpy as np

    from coarsegrad.theory import online

    problem = online.Quadratic()
    setting = online.Setting(eta=1.0, betas=(0.0, 0.5))
    ended = online.trace(online.amsgrad, problem, steps, setting, start=np.ones(2))
    steepest = math.dist((-1.0, -1.0), problem.target)
    scale = float(np.abs(ended.w).mean(1).max())
    ends = {
        "printed [alpha]": online.printed_corollary(
            ended, steepest, steepest, scale, alpha=scale),
        "printed [g]": online.printed_corollary(ended, steepest, steepest, scale),
        "corrected": online.corrected(ended),
    }  # fmt: skip
    found.append(("quadratic, AMSGrad", "corrected", ends["corrected"]))
    for kind, bound in ends.items():
        text = kind if kind == "corrected" else f"Corollary 4, {kind}"
        record.add(_numbers("quadratic", "AMSGrad", steps, text, bound))
    return ends


def _numbers(problem: str, rule: str, steps: int, kind: str, bound: Bound) -> dict[str, Any]:
    return {
        "problem": problem, "rule": rule, "t": steps, "bound": kind, "regret": bound.regret,
        **{term: getattr(bound, term) for term in TERMS}, "total": bound.total,
        "verdict": bound.verdict,
    }  # fmt: skip


def _worst(found: Found) -> str:
    return f"{max(bound.regret / bound.total for _, kind, bound in found):.1%}"


def _told(bound: Bound) -> str:
    terms = ", ".join(f"{term} {getattr(bound, term):,.0f}" for term in TERMS)
    return f"R_T = {bound.regret:,.0f}, bound {bound.total:,.0f} ({terms})"


def _printed_theorem(ends: dict[str, Bound]) -> Comparison:
    broken = all(bound.verdict == "violated" for bound in ends.values())
    return Comparison(
        "Theorem 4 bounds R_T of BAMSProd with c* as printed",
        f"Reddi 2, w_1 = alpha, eta = 1: {_told(ends['printed [g]'])}",
        "does not hold" if broken else "not run", "Theorem 4, printed",
    )  # fmt: skip


def _printed_corollary(ends: dict[str, Bound]) -> Comparison:
    broken = all(ends[k].verdict == "violated" for k in ("printed [alpha]", "printed [g]"))
    return Comparison(
        "Corollary 4: R_T is O(sqrt T)",
        f"binary quadratic, AMSGrad, T = 1e4: {_told(ends['printed [g]'])}; corrected "
        f"{ends['corrected'].total:,.0f}",
        "does not hold" if broken else "differs", "Corollary 4, printed",
    )  # fmt: skip


def _draw(found: Found, path: Path) -> Path:
    """Draw R_T and the corrected right side of each run."""
    figure, (axes,) = canvas(7.2, 4.4)
    names = [name for name, _, _ in found]
    for place, (_, _, bound) in enumerate(found):
        axes.plot([bound.regret, bound.total], [place, place], color="#b8c0ca", linewidth=1)
        axes.plot(bound.regret, place, "o", color=COLOURS[1], markersize=4,
                  label="R_T" if not place else None)  # fmt: skip
        axes.plot(bound.total, place, "s", color=COLOURS[0], markersize=4,
                  label="corrected bound" if not place else None)  # fmt: skip
    axes.set_yticks(range(len(found)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="regret")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    return save(figure, path)
