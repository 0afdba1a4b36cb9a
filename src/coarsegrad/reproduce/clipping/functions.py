"""Which functions are (L0, L1)-smooth, with which constants, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

if TYPE_CHECKING:
    from coarsegrad.theory import Curve

REACH, CELLS = 10.0, 4000
"""Ratios are taken on a grid of so many cells from -REACH to REACH."""

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Take the ratios; seconds in either form."""
    from coarsegrad.theory import hyperbolic, monomial

    canvas(1, 1)  # says that matplotlib is missing before anything is written
    curves = [hyperbolic(), hyperbolic(3.0, 0.5), monomial(3), monomial(4), monomial(4, 2.0)]
    with recorded(request.out / "functions.csv") as record:
        for curve in curves:
            smooth, gap, rise = ratios(curve)
            l0, l1 = curve.constants
            record.add({
                "function": curve.name, "l0": l0, "l1": l1, "smooth": smooth, "gap": gap,
                "rise": rise,
            })  # fmt: skip
    worst = {key: [row[key] for row in record.rows] for key in ("smooth", "gap", "rise")}
    picture = draw(curves, request.out / "functions.png")
    rows = (
        _smooth("cosh is (L0, L1)-smooth, not L-smooth", worst["smooth"][:2]),
        _smooth("x^3, x^4 are (L0, L1)-smooth, not L-smooth", worst["smooth"][2:]),
        _limit(),
        Comparison(
            "(not claimed) polynomials of several variables",
            "x^2 y^2 at (x, 0): gradient 0, Hessian 2 x^2", "does not hold", "Eq. 3",
        ),
        Comparison(
            "first-order form: |g(y) - g(x)| <= (L0/L1 + |g(x)|)(e^(L1 r) - 1)",
            f"at most {max(worst['gap']):.6f} of it", _verdict(max(worst["gap"])), "Eq. 3",
        ),
        Comparison(
            "descent: rise <= (5 L0 + 4 L1 |g|) r^2 / 2 for r <= 1 / L1",
            f"at most {max(worst['rise']):.3f} of it", _verdict(max(worst["rise"])), "Eq. 9, proof",
        ),
    )  # fmt: skip
    title = "Section 3: relaxed smoothness of known functions"
    return Report(title, rows, (record.path, picture))


def ratios(curve: Curve) -> tuple[float, float, float]:
    """Return the largest ratios of left to right side: of (3), its first-order form, descent."""
    from coarsegrad.theory import gap_bound

    l0, l1 = curve.constants
    smooth = gap = rise = 0.0
    for i in range(CELLS + 1):
        x = REACH * (2 * i / CELLS - 1)
        norm = abs(curve.slope(x))
        smooth = max(smooth, abs(curve.curvature(x)) / (l0 + l1 * norm))
        for r in (0.01 / l1, 1 / l1):
            for y in (x - r, x + r):
                moved = abs(curve.slope(y) - curve.slope(x))
                gap = max(gap, moved / gap_bound(curve.constants, norm, r))
                over = curve.value(y) - curve.value(x) - curve.slope(x) * (y - x)
                rise = max(rise, over / ((5 * l0 + 4 * l1 * norm) * r * r / 2))
    return smooth, gap, rise


def draw(curves: list[Curve], path: Path) -> Path:
    """Draw |f''| against |f'| and the line L0 + L1 |f'| of each function."""
    figure, (axes,) = canvas(7, 3.6)
    for colour, curve in zip(COLOURS, curves, strict=False):
        points = [2.0 ** (i / 8) / 8 for i in range(64)]
        slopes, bends = [curve.slope(x) for x in points], [curve.curvature(x) for x in points]
        kept = [i for i, s in enumerate(slopes) if 1e-2 < s < 1e4]
        l0, l1 = curve.constants
        label = f"{curve.name}, L0 {l0:g}, L1 {l1:g}"
        axes.plot([slopes[i] for i in kept], [bends[i] for i in kept], color=colour, label=label)
        axes.plot([slopes[i] for i in kept], [l0 + l1 * slopes[i] for i in kept], color=colour,
                  linestyle=(0, (2, 2)), linewidth=1)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="|f'|", ylabel="|f''|, dashed L0 + L1 |f'|")
    legend(axes, 2)
    return save(figure, path)


def _smooth(paper: str, found: list[float]) -> Comparison:
    ours = f"|f''| / (L0 + L1 |f'|) at most {max(found):.6f}, at least {min(found):.6f}"
    tight = all(abs(ratio - 1) < 1e-6 for ratio in found)
    return Comparison(paper, ours, "holds" if tight else "differs", "Eq. 3")


def _limit() -> Comparison:
    from coarsegrad.theory import monomial

    f = monomial(3)
    found = [abs(f.slope(x) / f.curvature(x)) for x in (1e1, 1e3, 1e5)]
    ours = f"x^3: {', '.join(f'{value:g}' for value in found)} at 1e1, 1e3, 1e5"
    grows = found[0] < found[1] < found[2]
    return Comparison(
        "univariate, degree 3 or more: |f' / f''| grows without bound", ours,
        "holds" if grows else "differs", "Eq. 4",
    )  # fmt: skip


def _verdict(ratio: float) -> Verdict:
    return "holds" if ratio <= 1 + 1e-9 else "does not hold"
