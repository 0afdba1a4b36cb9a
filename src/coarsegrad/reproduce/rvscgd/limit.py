"""Theorem 1's limit: Lemma 7's identity, equations (12) and (13), for each penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, legend, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict
from coarsegrad.reproduce.threads import one_thread

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = ((1e-4, 4e-3), (2e-2, 0.4))
PENALTIES = (("l0", 1.0), ("l1", 1.0), ("transformed_l1", 1.0), ("transformed_l1", 0.1))
ETA = 0.02


def run(request: Request) -> Report:
    """Run eight splittings to their limit, 20 seeds each; quick, 5 seeds."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    seeds, iterations = request.seeds_or(5 if request.quick else 20), 2000
    with one_thread(), recorded(request.out / "limit.csv") as record:
        for lam, beta in PARAMETERS:
            for penalty, a in PENALTIES:
                record.add(*_rows(penalty, a, lam, beta, seeds, iterations))
                request.show(f"  {penalty}, a = {a}, lambda = {lam}, beta = {beta}: done")
        table = list(record.rows)
    picture = _draw(table, request.out / "limit.png")
    notes = (
        f"k = 20, d = 50, w* of 10 entries U(0.5, 1.5), {seeds} seeds, {iterations} iterations of "
        f"eta = {ETA}: the limit does not depend on eta.",
    )
    return Report("Theorem 1: the limit point", _compared(table), (record.path, picture), notes)


def _rows(
    penalty: Any, a: float, lam: float, beta: float, seeds: int, iterations: int
) -> list[dict[str, Any]]:
    from coarsegrad import theory as t

    net = t.OneLayer(t.sparse_teachers(50, 10, seeds=seeds))
    splitting = t.Splitting(penalty, lam, beta, ETA, a)
    ended = t.rvscgd(net, splitting, t.random_starts(50, seeds), iterations)
    found = t.limit(net, splitting, ended.w)
    theta = t.angle(ended.w, net.star)
    return [
        {"penalty": penalty, "a": a, "lam": lam, "beta": beta, "seed": seed,
         "theta": float(theta[seed]),
         **{name: float(getattr(found, name)[seed]) for name in found._fields},
         "nonzeros": int((ended.u[seed] != 0).sum())}
        for seed in range(seeds)
    ]  # fmt: skip


def _compared(table: list[dict[str, Any]]) -> tuple[Comparison, ...]:
    identity = max(abs(row["identity"]) for row in table)
    residual = max(row["residual"] for row in table)
    # Where u = w, w is w*: both sides are rounding there, and have no ratio.
    ratio = [row["distance"] / row["bound"] for row in table if row["bound"] > 1e-9]
    met = all(row["distance"] <= row["bound"] + 1e-12 for row in table)
    c = [row["c"] for row in table]

    def said(good: bool) -> Verdict:
        return "holds" if good else "differs"

    return (
        Comparison("(k / 2 pi) sin theta = beta |u| sin gamma", f"{len(table)} runs, off by "
                   f"{identity:.0e} at most", said(identity <= 1e-9), "Lemma 7"),
        Comparison("w* = C w + (2 pi beta / k)(w - S(w)), 0 < C <= 1", f"off by {residual:.0e} at "
                   f"most, C from {min(c):.4f} to {max(c):.4f}",
                   said(residual <= 1e-10 and min(c) > 0 and max(c) <= 1 + 1e-12),
                   "(12), Corollary 1.1"),
        Comparison("|w - w*| <= (4 pi beta / k) sin gamma", "left side "
                   f"{min(ratio):.2f} to {max(ratio):.2f} of the right one",
                   said(met), "(13)"),
    )  # fmt: skip


def _draw(table: list[dict[str, Any]], path: Path) -> Path:
    """Draw the distance to w* against its bound, where they are more than rounding."""
    table = [row for row in table if row["bound"] > 1e-9]
    figure, (axes,) = canvas(6.4, 3.6)
    for colour, (penalty, a) in zip(COLOURS, PENALTIES, strict=False):
        mine = [row for row in table if (row["penalty"], row["a"]) == (penalty, a)]
        name = f"Tl1, a = {a:g}" if penalty == "transformed_l1" else penalty
        axes.plot([r["bound"] for r in mine], [r["distance"] for r in mine], "o", markersize=4,
                  color=colour, label=name)  # fmt: skip
    ends = [min(r["distance"] for r in table), max(r["bound"] for r in table)]
    axes.plot(ends, ends, color="#2b3440", linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("bound (13)")
    axes.set_ylabel("distance from w to w*")
    legend(axes, 4)
    return save(figure, path)
