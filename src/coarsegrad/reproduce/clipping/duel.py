"""The class experiment: plain against clipped gradient descent on the pair behind (13)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

if TYPE_CHECKING:
    from coarsegrad.theory import Count

EPS, DELTA = 0.02, 1.0
SLOW = 1e2
"""Up to this M the step of bound (12) is run too; it takes 2 (log M + 1) times as long."""

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Run it for M = 1e1 to 1e5 (a minute); quick, to 1e4."""
    from coarsegrad.theory import class_experiment

    canvas(1, 1)  # says that matplotlib is missing before a minute has gone
    found: list[Count] = []
    with recorded(request.out / "duel.csv") as record:
        for m in (1e1, 1e2, 1e3, 1e4) if request.quick else (1e1, 1e2, 1e3, 1e4, 1e5):
            for count in class_experiment(m, EPS, DELTA, slow=m <= SLOW):
                found.append(count)
                record.add({
                    "m": m, "function": count.function, "method": count.method,
                    "iterations": count.iterations, "lower": count.lower, "upper": count.upper,
                })  # fmt: skip
            request.show(f"  M = {m:g}: " + ", ".join(
                f"{c.method} {c.function} {c.iterations}" for c in found if c.m == m
            ))  # fmt: skip
    picture = draw(found, request.out / "duel.png")
    rows = (*compared(found), divergence(), order())
    notes = (
        f"L0 = L1 = 1, eps = {EPS}, Delta = {DELTA} on the flat function. The steep one has the "
        "gap (M - 1/2) / L1: a class with one Delta for both needs Delta >= M - 1/2. That "
        "multiplies all counts on the flat function alike and leaves their ratio.",
        "The stochastic bound (bounded noise, A5) is not tested yet.",
    )
    title = "Equations 9-13: iterations against M, one step size for a steep and a flat function"
    return Report(title, rows, (record.path, picture), notes)


def compared(found: list[Count]) -> tuple[Comparison, ...]:
    """Compare growth and bounds."""
    of = {
        method: [c for c in found if (c.function, c.method) == ("flat", method)]
        for method in ("gd", "clipped")
    }
    scaled = [(c.iterations or 0) * (math.log(c.m) + 1) / c.m for c in of["gd"]]
    even = max(scaled) < 1.05 * min(scaled)
    flat = len({c.iterations for c in of["clipped"]}) == 1
    numbers = {m: ", ".join(f"{c.iterations:,}" for c in of[m]) for m in of}
    within: Verdict = "holds" if all(c.within for c in found) else "does not hold"
    bounded = [c for c in found if c.upper is not None]
    slack = [c.upper / c.iterations for c in bounded if c.upper and c.iterations]
    last = of["gd"][-1]
    return (
        Comparison(
            "gradient descent with a fixed step needs at least order M / log M",
            f"{numbers['gd']}: times (log M + 1) / M, {min(scaled):.1f} to {max(scaled):.1f}",
            "holds" if even else "differs", "Eq. 13",
        ),
        Comparison(
            "clipped gradient descent does not depend on M",
            numbers["clipped"], "holds" if flat else "differs", "Eq. 10",
        ),
        Comparison(
            "the bounds (9), (12) and (13)",
            f"{sum(c.within for c in found)} of {len(found)} runs within; at M = {last.m:g} "
            f"{(last.iterations or 0) / (last.lower or 1):.3f} times (13); (9) and (12) are "
            f"{min(slack):.1f} times the count or more",
            within, "Eq. 9, 12, 13",
        ),
    )  # fmt: skip


def divergence() -> Comparison:
    """Compare what happens just below and just above the steep function's limit."""
    from coarsegrad.errors import DivergenceError
    from coarsegrad.theory import descend, fixed_rate, steep, steep_limit

    below = above = 0
    cases = [(m, l1) for m in (1e1, 1e3, 1e6) for l1 in (1.0, 2.0)]
    for m, l1 in cases:
        start, limit = [(math.log(m) + 1) / l1], steep_limit(l1, m)
        run = descend([steep(l1)], start, fixed_rate(0.999 * limit), EPS, 10**6)
        below += run.iterations is not None
        try:
            descend([steep(l1)], start, fixed_rate(1.001 * limit), EPS, 10**6)
        except DivergenceError:
            above += 1
    return Comparison(
        "the steep function forbids steps above 2 (log M + 1) / (M L1)",
        f"at .999 of it {below} of {len(cases)} settle, at 1.001 of it {above} diverge",
        "holds" if below == above == len(cases) else "does not hold", "Eq. 13, proof",
    )  # fmt: skip


def order() -> Comparison:
    """Compare (10) with (9), whose order it is said to be."""
    from coarsegrad.theory import Constants, clipped_bound, clipped_order

    def ratio(l0: float, l1: float, eps: float) -> float:
        constants = Constants(l0, l1)
        return clipped_bound(constants, 1.0, eps) / clipped_order(constants, 1.0, eps)

    inside = max(ratio(1.0, l1, eps) for l1 in (0.0, 0.1, 1.0, 10.0) for eps in (1e-3, 1.0))
    outside = ratio(0.01, 1e-3, 10.0)
    return Comparison(
        "(9) is of the order (10)",
        f"(9) / (10) at most {inside:.0f} for eps <= L0; {outside:.0e} at L0 = .01, L1 = .001, "
        "eps = 10: max(1, L1^2) is no multiple of L1^2",
        "holds after repair", "Eq. 10",
    )  # fmt: skip


def draw(found: list[Count], path: Path) -> Path:
    """Draw iterations against M with the bounds."""
    figure, (axes,) = canvas(7, 4.2)
    shown = (
        ("flat", "gd", "o-", 1, "plain, flat"), ("steep", "gd", "o--", 1, "plain, steep"),
        ("flat", "clipped", "s-", 0, "clipped, flat"),
        ("steep", "clipped", "s--", 0, "clipped, steep"),
        ("flat", "gd (12)", "^-", 4, "plain, flat, step of (12)"),
    )  # fmt: skip
    for function, method, style, colour, label in shown:
        of = [c for c in found if (c.function, c.method) == (function, method)]
        counts = [c.iterations or math.nan for c in of]
        axes.plot([c.m for c in of], counts, style, color=COLOURS[colour], markersize=5,
                  linewidth=1.4, label=label)  # fmt: skip
    for method, bound, colour, label in (
        ("gd", "lower", 1, "bound (13), from below"), ("clipped", "upper", 0, "bound (9)"),
    ):  # fmt: skip
        of = [c for c in found if (c.function, c.method) == ("flat", method)]
        axes.plot([c.m for c in of], [getattr(c, bound) for c in of], ":", color=COLOURS[colour],
                  linewidth=2.2, label=label)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="M", ylabel="iterations to |gradient| <= eps")
    legend(axes, 3)
    return save(figure, path)
