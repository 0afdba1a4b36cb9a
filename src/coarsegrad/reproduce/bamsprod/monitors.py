"""Equation (1): Upsilon_t and Gamma_t along runs, beside whether the runs converge."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

RULES = (
    "SGD", "Adam", "AMSGrad", "AdaBound", "AMSBound", "BAMSProd", "BAMSProd, constant",
    "BAMSProd, literal, 1/0 = 0",
)  # fmt: skip
CONSTANT_ETA = ("SGD", "Adam", "AMSGrad", "AMSBound", "BAMSProd", "BAMSProd, constant")
LEVEL = "0.01"
"""The constant eta: a tenth of the falling one's start, whose steps would span the box."""

Found = dict[tuple[str, str], dict[str, Any]]

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Trace T = 1e5 steps of Reddi 2, some 20 s; quick, T = 1e4."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    steps = 10_000 if request.quick else 100_000
    found: Found = {}
    with recorded(request.out / "monitors.csv") as record:
        for decay, rules in (("0.1 / sqrt(t)", RULES), (LEVEL, CONSTANT_ETA)):
            for rule in rules:
                found[rule, decay] = _numbers(rule, decay, steps)
                record.add(found[rule, decay])
                request.show(f"  eta_t = {decay}, {rule}: {_told(found[rule, decay])}")
    picture = _draw(found, request.out / "monitors.png")
    notes = (
        "Reddi's second sequence, C = 10, betas (0.3, 0.3), w_1 = 1. n- is the share of steps in "
        "which Upsilon~ falls; Gamma is |Upsilon~ - Upsilon(raw v)|, its largest. The losses are "
        "linear, so that the binary and the full-precision gradients agree, and the other reading "
        "of Gamma, beside the full-precision model, is the same number.",
    )
    title = f"Equation (1) along runs of {steps:,} steps"
    return Report(title, _compared(found), (record.path, picture), notes)


def _numbers(rule: str, decay: str, steps: int) -> dict[str, Any]:
    from coarsegrad.theory.online import Setting, monitors, reddi2, trace, twins, upsilon

    toy = reddi2()
    falls = decay != LEVEL
    setting = Setting(eta=0.1 if falls else 0.01, betas=toy.betas, invsqrt=falls)
    ended = trace(twins()[rule], toy, steps, setting)
    seen = monitors(ended)
    return {
        "rule": rule, "eta": decay, "t": steps, "average_regret": ended.total / steps,
        "mean_w_last_tenth": float(ended.w[-steps // 10 :].mean()),
        "share_negative": seen.share,
        "least_upsilon": float(upsilon(ended.value, ended.eta).min()),
        "largest_gamma": float(seen.projected.max()),
        "median_gamma": statistics.median(seen.projected.tolist()),
    }  # fmt: skip


def _told(row: dict[str, Any]) -> str:
    return (
        f"n- {row['share_negative']:.2f}, Gamma up to {row['largest_gamma']:.3g}, "
        f"R_T/T {row['average_regret']:.4f}, w {row['mean_w_last_tenth']:+.2f}"
    )


def _compared(found: Found) -> tuple[Comparison, ...]:
    falling = "0.1 / sqrt(t)"
    literal, ams = found["BAMSProd, literal, 1/0 = 0", falling], found["AMSGrad", falling]
    ours, adam = found["BAMSProd", falling], found["Adam", falling]
    level = [found[rule, LEVEL] for rule in CONSTANT_ETA]
    without = [
        row for row in level if row["share_negative"] > 0.9 and row["mean_w_last_tenth"] < -0.8
    ]
    broken = literal["mean_w_last_tenth"] > 0.9 and literal["share_negative"] == 0
    names = ", ".join(row["rule"] for row in without)
    return (
        Comparison("Upsilon_t is always positive for Adam (section 4); it may be not (section 3)",
                   f"Adam: {_told(adam)}",
                   "does not hold" if adam["share_negative"] > 0.5 else "holds", "Section 4"),
        Comparison("BAMSProd keeps Upsilon~_t from turning negative",
                   f"BAMSProd, n- {ours['share_negative']:.4f}, least Upsilon~ "
                   f"{ours['least_upsilon']:.3g}: c_u falls faster than sqrt(t) at first",
                   "holds" if ours["least_upsilon"] >= 0 else "differs", "Section 4"),
        Comparison("Gamma_t determines the convergence",
                   f"AMSGrad: {_told(ams)}; BAMSProd (relative): {_told(ours)}; literal c*: "
                   f"{_told(literal)}; Adam: Gamma = 0, and it fails",
                   "does not hold" if broken and ams["largest_gamma"] > 1e3 else "differs",
                   "Equation (1)"),
        Comparison("Upsilon~_t >= 0 is what convergence needs",
                   "not enough: literal c* has n- = 0 and stays at +1; not necessary: with "
                   f"constant eta, n- above 0.9 and w below -0.8 for {names or 'none'}",
                   "does not hold" if broken and without else "differs", "Section 3"),
    )  # fmt: skip


def _draw(found: Found, path: Path) -> Path:
    """Draw the average regret against n- and against Gamma, a point a run."""
    figure, panels = canvas(8.8, 3.5, columns=2)
    for axes, key in zip(panels, ("share_negative", "largest_gamma"), strict=True):
        for place, rule in enumerate(RULES):
            for (name, decay), row in found.items():
                if name == rule:
                    filled = decay != LEVEL
                    colour = COLOURS[place % len(COLOURS)]
                    axes.plot(max(row[key], 1 if key == "largest_gamma" else 0),
                              row["average_regret"], "osD^vP*X"[place], color=colour,
                              markerfacecolor=colour if filled else "none", markersize=7,
                              label=rule if filled else None)  # fmt: skip
        axes.set_yscale("log")
    panels[0].set(xlabel="n-: share of steps with Upsilon~ < 0", ylabel="R_T / T")
    panels[1].set(xlabel="largest Gamma (0 drawn at 1)", xscale="log")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, [label.replace(", 1/0 = 0", "") for label in labels],
                  loc="outside right center", frameon=False, fontsize=8)  # fmt: skip
    panels[0].set_title("filled: eta / sqrt(t); hollow: constant eta", fontsize=8, loc="left")
    return save(figure, path)
