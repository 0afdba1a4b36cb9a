"""L0 and L1 found again where they are known: cosh, along clipped gradient descent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

if TYPE_CHECKING:
    from coarsegrad.theory import Constants

KNOWN = ((1.0, 2.0), (3.0, 0.5))
Pairs = tuple[list[float], list[float]]

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Measure and fit; no time in either form."""
    from coarsegrad.theory import envelope, least_squares

    canvas(1, 1)  # says that matplotlib is missing before anything is written
    found: dict[tuple[float, float], Pairs] = {}
    rows: list[Comparison] = []
    with recorded(request.out / "fit.csv") as record:
        for known in KNOWN:
            found[known] = measured(*known)
            record.add(*(
                {"l0": known[0], "l1": known[1], "gradient": g, "smoothness": s}
                for g, s in zip(*found[known], strict=True)
            ))  # fmt: skip
            rows.append(_row("upper envelope", known, envelope(*found[known]), wanted=True))
            rows.append(_row("least squares", known, least_squares(*found[known]), wanted=False))
    picture = draw(found, request.out / "fit.png")
    notes = (
        "|f''| = sqrt(L0^2 + L1^2 f'^2) is no line in |f'|: least squares goes through the middle "
        "of the points and misses L0; the envelope is the lowest line above them.",
    )
    title = "The fit of (L0, L1) on (L0 / L1^2)(cosh(L1 x) - 1)"
    return Report(title, tuple(rows), (record.path, picture), notes)


def measured(l0: float, l1: float) -> Pairs:
    """Return the norms and the smoothness along clipped gradient descent from L1 x = 8."""
    from coarsegrad.theory import clipped_rate, clipping, descend, hyperbolic, smoothness_along

    f = hyperbolic(l0, l1)
    path: list[tuple[float, ...]] = []
    rate = clipped_rate(*clipping(f.constants))
    end = descend([f], [8 / l1], rate, 1e-3, 10_000, lambda t, x, norm: path.append(x))
    norms = [abs(f.slope(x)) for (x,) in path]
    return norms, [smoothness_along([f], a, b) for a, b in pairwise([*path, end.x])]


def draw(found: dict[tuple[float, float], Pairs], path: Path) -> Path:
    """Draw the pairs and both lines, log-log."""
    from coarsegrad.theory import envelope, least_squares

    figure, panels = canvas(8.4, 3.6, columns=len(found))
    for axes, (known, (norms, smoothness)) in zip(panels, found.items(), strict=True):
        axes.plot(norms, smoothness, ".", color=COLOURS[0], markersize=5, label="measured")
        for fit, colour, style in ((envelope, 1, "-"), (least_squares, 2, "--")):
            c = fit(norms, smoothness)
            label = fit.__name__.replace("_", " ")
            axes.plot(norms, [c.l0 + c.l1 * g for g in norms], style, color=COLOURS[colour],
                      linewidth=1.3, label=label)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="norm of the gradient", ylabel="smoothness")
        axes.set_title(f"L0 = {known[0]:g}, L1 = {known[1]:g}", loc="right")
    legend(panels[0], 2)
    return save(figure, path)


def _row(
    name: str, known: tuple[float, float], fit: Constants, *, wanted: bool
) -> Comparison:  # fmt: skip
    off = [value / true - 1 for value, true in zip(fit, known, strict=True)]
    close = all(abs(x) < 0.01 for x in off)
    ours = f"{name}: ({fit.l0:.3f}, {fit.l1:.3f}), off by {off[0]:+.1%} and {off[1]:+.1%}"
    return Comparison(
        f"(L0, L1) = ({known[0]:g}, {known[1]:g}) from gradients alone", ours,
        "holds" if close else ("does not hold" if not wanted else "differs"), "Section 5",
    )  # fmt: skip
