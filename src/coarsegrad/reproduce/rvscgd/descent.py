"""Lemmas 4 to 6 on random states, and Theorem 1's monotonicity from w* itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict
from coarsegrad.reproduce.threads import one_thread

if TYPE_CHECKING:
    from pathlib import Path

    from coarsegrad.theory import OneLayer, Run

D, ITERATIONS = 20, 600

FIXED_SEEDS = True


def run(request: Request) -> Report:
    """Check 100,000 states (quick 20,000), and run 600 iterations from w* and from elsewhere."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    states = 20_000 if request.quick else 100_000
    with one_thread(), recorded(request.out / "descent.csv") as record:
        lemmas = _lemmas(states)
        record.add(*[row for row, _ in lemmas])
        runs = _runs()
        for start, (name, one) in runs.items():
            record.add(_row(f"Theorem 1, {name} from {start}", ITERATIONS, int(one.rises[1].sum()),
                            float(one.lagrangian[-1, 0] - one.lagrangian[0, 0])))  # fmt: skip
    picture = _draw(runs, request.out / "descent.png")
    rows = (*[comparison for _, comparison in lemmas], _theorem(runs["w*"][1]))
    notes = (
        f"{states:,} random unit vectors in dimension {D}, half of them near w*; k = 20. The runs "
        "have d = 50, 10 entries, lambda = 0.02, beta = 0.4, eta = 0.02, which meets (i) to (iii).",
    )
    return Report("Section 5: when angle and Lagrangian descend", rows,
                  (record.path, picture), notes)  # fmt: skip


def _row(statement: str, cases: int, violations: int, worst: float) -> dict[str, Any]:
    return {"statement": statement, "cases": cases, "violations": violations, "worst": worst}


def _lemmas(count: int) -> list[tuple[dict[str, Any], Comparison]]:
    """Return a row and a comparison for each lemma."""
    import torch

    from coarsegrad import theory as t

    generator = torch.Generator().manual_seed(0)
    star, first, second = (
        t.direction(torch.randn(n, D, dtype=torch.float64, generator=generator))
        for n in (1, count, count)
    )
    share = 10 ** (-4 * torch.rand(count, 1, dtype=torch.float64, generator=generator))
    first[::2] = t.direction(star + share[::2] * first[::2])
    second = t.direction(first + share * second)
    net = t.OneLayer(star)
    falls = t.angle(second, star) <= t.angle(first, star)
    slack = t.lemma4_slack(net, first, second)
    ratio = t.lipschitz_ratio(net, first, 1.7 * second, coarse=True) / net.strength - 1
    splitting = t.Splitting("l1", lam=0.1, beta=2.0, eta=1 / (2.0 + net.strength))
    u = splitting.prox(first)
    six = t.lemma6(net, splitting, first, u)
    descends = six.theta <= 0
    small = t.Splitting("l1", lam=0.1, beta=2.0, eta=1e-7)
    margin = t.angle_margin(net, small, first, u)
    turned = t.lemma6(net, small, first, u).theta
    safe = margin > 1e-5
    checks = (
        ("4, |E g(w1) - E g(w2)| <= (k / 2 pi)|w1 - w2|", ratio, ratio > 1e-9, "holds"),
        ("4, descent inequality, as printed", -slack, slack < -1e-12, "does not hold"),
        ("4, the same where theta_2 <= theta_1", -slack[falls], slack[falls] < -1e-12,
         "holds after repair"),
        ("5, theta falls where A sin theta >= beta |u| sin gamma", turned[safe],
         turned[safe] > 1e-14, "holds after repair"),
        ("6, the Lagrangian falls with eta <= 1 / (beta + L), theta falling",
         (six.change - six.bound)[descends], (six.change - six.bound)[descends] > 1e-12, "holds"),
    )  # fmt: skip
    found: list[tuple[dict[str, Any], Comparison]] = []
    for statement, numbers, violated, expected in checks:
        bad, worst = int(violated.sum()), float(numbers.max())
        row = _row(f"Lemma {statement}", len(numbers), bad, worst)
        good: Verdict = expected  # type: ignore[assignment]
        verdict: Verdict = good if (bad > 0) == (good == "does not hold") else "differs"
        ours = f"{bad:,} violations in {len(numbers):,} states, worst {worst:.1e}"
        found.append((row, Comparison(statement[3:], ours, verdict, f"Lemma {statement[0]}")))
    return found


def _runs() -> dict[str, tuple[str, Run]]:
    """Return the runs by where they start."""
    from coarsegrad import theory as t

    net: OneLayer = t.OneLayer(t.sparse_teachers(50, 10, seeds=1))
    splitting = t.Splitting("l1", lam=2e-2, beta=0.4, eta=0.02)
    starts = {"a random point": t.random_starts(50, 1), "w*": net.star}
    return {name: ("l1", t.rvscgd(net, splitting, start, ITERATIONS, every=1))
            for name, start in starts.items()}  # fmt: skip


def _theorem(one: Run) -> Comparison:
    rises = int(one.rises[1].sum())
    theta, lagrangian = one.theta[:, 0], one.lagrangian[:, 0]
    ours = (
        f"from w*: theta {float(theta[0]):.0e} -> {float(theta[-1]):.1e}, L {lagrangian[0]:.4f} -> "
        f"{lagrangian[-1]:.4f}, rising in {rises} of {ITERATIONS} iterations"
    )
    verdict: Verdict = "does not hold" if rises else "holds"
    return Comparison("L decreases monotonically under (i) to (iii)", ours, verdict, "Theorem 1")


def _draw(runs: dict[str, tuple[str, Run]], path: Path) -> Path:
    """Draw angle and Lagrangian of both runs."""
    figure, panels = canvas(8, 3.2, columns=2)
    for colour, (start, (_, one)) in zip(COLOURS, runs.items(), strict=False):
        for axes, numbers in zip(panels, (one.theta, one.lagrangian), strict=True):
            axes.plot(one.at, numbers[:, 0].clamp(min=1e-5), color=colour, linewidth=1.6,
                      label=f"from {start}")  # fmt: skip
    for axes, label in zip(panels, ("angle to w*", "Lagrangian (9)"), strict=True):
        axes.set_yscale("log")
        axes.set_xlabel("iteration")
        axes.set_ylabel(label)
    panels[1].legend(frameon=False)
    return save(figure, path)
