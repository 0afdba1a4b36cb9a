"""Clipped and normalised steps are within a factor of two, equations (7) and (8)."""

from __future__ import annotations

from coarsegrad.reproduce.drawing import COLOURS, INK, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

ETA, GAMMA = 0.1, 1.0

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Compare the rates over eight decades of the gradient's norm; no time in either form."""
    from coarsegrad.theory import clipped_rate, normalised_rate

    canvas(1, 1)  # says that matplotlib is missing before anything is written
    clipped, normalised = clipped_rate(ETA, GAMMA), normalised_rate(GAMMA * ETA, GAMMA)
    with recorded(request.out / "steps.csv") as record:
        norms = [GAMMA * 10 ** (k / 40) for k in range(-160, 161)]
        record.add(*(
            {"norm": n, "clipped": clipped(n), "normalised": normalised(n),
             "ratio": normalised(n) / clipped(n)} for n in norms
        ))  # fmt: skip
    found = [row["ratio"] for row in record.rows]
    figure, (axes,) = canvas(6.4, 3)
    axes.plot(norms, found, color=COLOURS[0])
    for level in (0.5, 1):
        axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(
        xscale="log", xlabel="norm of the gradient / gamma", ylabel="h_n / h_c", ylim=(0.4, 1.1)
    )
    picture = save(figure, request.out / "steps.png")
    holds = min(found) >= 0.5 - 1e-12 and max(found) <= 1
    row = Comparison(
        "with eta_n = gamma eta_c, beta = gamma: h_c / 2 <= h_n <= h_c",
        f"h_n / h_c from {min(found):.4f} to {max(found):.4f}",
        "holds" if holds else "does not hold", "Eq. 7, 8",
    )  # fmt: skip
    return Report("Clipped beside normalised steps", (row,), (record.path, picture))
