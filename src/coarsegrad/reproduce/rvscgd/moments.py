"""Equation (3), Lemmas 1 to 3: closed forms beside Monte Carlo, and the bound that is not one."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.parallel import Watch, together
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict

if TYPE_CHECKING:
    from pathlib import Path

PLACES = ((0.3, 1.0), (1.1, 1.7), (2.6, 0.4))
"""theta and |w|."""

D = 10
QUANTITIES = {"loss": "f, (3)", "coarse_gradient": "E g", "gradient": "grad f"}
WHERE = {"loss": "(3)", "coarse_gradient": "Lemma 2", "gradient": "Lemma 2"}

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Estimate each quantity at three angles: 2e7 patches each; quick, 5e5."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    patches = 500_000 if request.quick else 20_000_000
    found: list[dict[str, Any]] = []
    with recorded(request.out / "moments.csv") as record:
        for _, rows in together([functools.partial(_measure, p, patches) for p in PLACES]):
            found += rows
            record.add(*rows)
            request.show(f"  theta = {rows[0]['theta']}: done")
        record.rows.sort(key=lambda row: (row["quantity"], row["theta"], row["entry"]))
    compared = [_compared(found, quantity) for quantity in QUANTITIES]
    picture = _draw(found, request.out / "moments.png")
    notes = (
        f"{patches:,} patches of dimension {D} at each of theta = 0.3, 1.1, 2.6; k = 20. The slope "
        "c of (8) is missing from the paper's text: sqrt(2/pi) is what its section 5.1 needs.",
    )
    title = "Section 3: population loss, coarse and true gradient beside Monte Carlo"
    return Report(title, (*compared, _lemma3()), (record.path, picture), notes)


def _measure(place: tuple[float, float], patches: int, watch: Watch) -> list[dict[str, Any]]:
    from coarsegrad import theory as t

    theta, size = place
    star, other = t.random_starts(D, 2)
    across = t.direction(other - (other @ star) * star)
    net = t.OneLayer(star)
    w = size * (math.cos(theta) * star + math.sin(theta) * across)
    moments = t.moments(net, w, patches)
    rows = []
    for name in QUANTITIES:
        exact = getattr(net, name)(w).reshape(-1)
        mean, error = getattr(moments, name)
        for i in range(len(exact)):
            rows.append({
                "quantity": name, "theta": theta, "size": size, "entry": i, "patches": patches,
                "closed": float(exact[i]), "monte_carlo": float(mean[i]),
                "standard_error": float(error[i]),
            })  # fmt: skip
    return rows


def _deviation(row: dict[str, Any]) -> float:
    return float(abs(row["monte_carlo"] - row["closed"]) / row["standard_error"])


def _compared(found: list[dict[str, Any]], quantity: str) -> Comparison:
    mine = [row for row in found if row["quantity"] == quantity]
    most = max(map(_deviation, mine))
    verdict: Verdict = "holds" if most <= 4 else "differs"
    formula = {"loss": "f = k theta / 2 pi", "coarse_gradient": "E g = (k / 2 pi)(w^ - w*)",
               "gradient": "grad f = -(k / 2 pi |w|) P w* / |P w*|"}[quantity]  # fmt: skip
    ours = f"{len(mine)} numbers, at most {most:.1f} standard errors off"
    return Comparison(formula, ours, verdict, WHERE[quantity])


def _lemma3() -> Comparison:
    """Measure the true gradient's Lipschitz ratio beside w*."""
    import torch

    from coarsegrad import theory as t

    net = t.OneLayer(torch.tensor([1.0, 0.0], dtype=torch.float64))
    ratios = []
    for p in (0.1, 0.01, 0.001):
        up = torch.tensor([math.cos(p), math.sin(p)], dtype=torch.float64)
        down = up * torch.tensor([1.0, -1.0], dtype=torch.float64)
        ratios.append(f"{float(t.lipschitz_ratio(net, up, down, coarse=False)):.0f}")
    return Comparison(
        "grad f is Lipschitz with a constant of |w| only",
        f"ratio {', '.join(ratios)} at 0.1, 0.01, 0.001 from w*: its direction flips there",
        "does not hold", "Lemma 3",
    )  # fmt: skip


def _draw(found: list[dict[str, Any]], path: Path) -> Path:
    """Draw every deviation in standard errors."""
    figure, (axes,) = canvas(7.6, 3.2)
    for place, (name, label) in enumerate(QUANTITIES.items()):
        mine = [row for row in found if row["quantity"] == name]
        across = [place + 0.6 * ((i + 0.5) / len(mine) - 0.5) for i in range(len(mine))]
        signed = [(r["monte_carlo"] - r["closed"]) / r["standard_error"] for r in mine]
        axes.plot(across, signed, "o", color=COLOURS[place], markersize=5, label=label)
    for level in (-4, 4):
        axes.axhline(level, color="#2b3440", linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xticks([])
    axes.set_ylabel("Monte Carlo - closed form,\nin standard errors")
    legend(axes, 3)
    return save(figure, path)
