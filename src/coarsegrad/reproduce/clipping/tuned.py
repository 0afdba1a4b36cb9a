"""One function of two coordinates: steps of the proofs, and tuned against tuned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

if TYPE_CHECKING:
    from coarsegrad.theory import Count

METHODS = ("gd (12)", "gd tuned", "clipped", "normalised", "clipped tuned")

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Run both functions for M = 1e1 to 1e5 (a minute); quick, to 1e4."""
    from coarsegrad.theory import Plane, hyperbolic, monomial, proved_steps, tuned_steps

    canvas(1, 1)  # says that matplotlib is missing before a minute has gone
    found: list[Count] = []
    with recorded(request.out / "tuned.csv") as record:
        for curve in (hyperbolic(), monomial(4)):
            for m in (1e1, 1e2, 1e3, 1e4) if request.quick else (1e1, 1e2, 1e3, 1e4, 1e5):
                plane = Plane(curve, m)
                for count in (*proved_steps(plane), *tuned_steps(plane)):
                    found.append(count)
                    record.add({
                        "function": count.function, "m": m, "method": count.method,
                        "iterations": count.iterations, "upper": count.upper,
                    })  # fmt: skip
                request.show(f"  {curve.name}, M = {m:g}")
    picture = draw(found, request.out / "tuned.png")
    names = list(dict.fromkeys(c.function for c in found))
    rows = [compared(name, [c for c in found if c.function == name]) for name in names]
    upper = [c.upper / c.iterations for c in found if c.upper and c.iterations]
    within: Verdict = "holds" if all(c.within for c in found) else "does not hold"
    rows.append(Comparison(
        "the bounds (9) and (12)",
        f"{sum(c.within for c in found)} of {len(found)} runs within, by {min(upper):,.0f} times "
        "or more", within, "Eq. 9, 12",
    ))  # fmt: skip
    notes = (
        "f(x, y) = f_1(x) + y^2 / 2, eps = 0.01, y_0 = 1. Tuned: the best of 60 fixed steps, and "
        "of 12 x 10 pairs of rate and length. With the steps of the proofs, clipping loses to "
        "tuned plain descent for small M: its constants are cautious.",
    )
    title = "Clipped against plain gradient descent on one function, tuned and as proved"
    return Report(title, tuple(rows), (record.path, picture), notes)


def compared(name: str, found: list[Count]) -> Comparison:
    """Compare how tuned methods grow with M."""
    from coarsegrad.theory import growth_exponent

    of = {method: [c for c in found if c.method == method] for method in METHODS}
    slopes = {m: growth_exponent(of[m]) for m in ("gd tuned", "clipped tuned", "clipped")}
    last = of["gd tuned"][-1]
    best, other = last.iterations or 0, of["clipped tuned"][-1].iterations or 1
    holds = slopes["gd tuned"] > 0.5 > 0.3 > max(slopes["clipped tuned"], slopes["clipped"])
    return Comparison(
        f"{name}: clipped descent is faster by any factor for large M",
        f"tuned: {best:,} against {other} iterations at M = {last.m:g}; exponents in M: plain "
        f"{slopes['gd tuned']:.2f}, clipped {slopes['clipped tuned']:.2f} tuned, "
        f"{slopes['clipped']:.2f} as proved",
        "holds" if holds else "differs", "Eq. 10, 13",
    )  # fmt: skip


def draw(found: list[Count], path: Path) -> Path:
    """Draw iterations against M, a panel a function."""
    names = list(dict.fromkeys(c.function for c in found))
    figure, panels = canvas(9.6, 3.8, columns=len(names))
    styles = ("^--", "o-", "s--", "d:", "s-")
    for axes, name in zip(panels, names, strict=True):
        for k, method in enumerate(METHODS):
            of = [c for c in found if (c.function, c.method) == (name, method)]
            counts = [c.iterations or math.nan for c in of]
            axes.plot([c.m for c in of], counts, styles[k], color=COLOURS[k], markersize=5,
                      linewidth=1.4, label=method)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="M", ylabel="iterations")
        axes.set_title(f"{name} + y^2/2")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    return save(figure, path)
