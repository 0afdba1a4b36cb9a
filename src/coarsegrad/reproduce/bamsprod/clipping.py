"""Gradient clipping by value: what it does to the mean gradient of Theorem 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coarsegrad.reproduce.drawing import COLOURS, canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

LIMITS = (None, 9.5, 8.0, 4.0, 1.0)
RULES = ("SGD", "Adam", "AMSGrad", "BAMSProd")


def run(request: Request) -> Report:
    """Run T = 1e5 steps for five limits, some 2 minutes; quick, SGD and Adam for T = 1e4."""
    import numpy as np

    from coarsegrad.theory.online import Lottery, Setting, play, twins

    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    steps, seeds = 10_000 if request.quick else 100_000, request.seeds_or(5)
    rules = RULES[:2] if request.quick else RULES
    found: dict[tuple[str, float | None], float] = {}
    with recorded(request.out / "clipping.csv") as record:
        for limit in LIMITS:
            law = Lottery(clip=limit)
            drawn = law.draw(steps, seeds)
            rows: list[dict[str, Any]] = []
            for rule in rules:
                last = play(twins()[rule], drawn, steps, Setting(betas=(0.3, 0.3)),
                            start=np.ones(seeds), at=(9 * steps // 10, steps))[-1]  # fmt: skip
                found[rule, limit] = float(last.recent.mean())
                rows.append({"clip": limit, "mean_gradient": law.drift(limit), "rule": rule,
                             "average_regret": float(last.average.mean()),
                             "mean_w_last_tenth": found[rule, limit]})  # fmt: skip
            record.add(*rows)
            request.show(f"  G = {limit}: {_told(found, rules, limit)}")
    picture = _draw(found, rules, request.out / "clipping.png")
    law = Lottery()
    turn = next(G / 100 for G in range(1000, 0, -1) if law.drift(G / 100) < 0)
    biased = found["SGD", 8.0] > 0.9 > -0.9 > found["SGD", None]
    ours = (
        f"the mean gradient p min(G, C) - (1 - p) min(G, 1) turns negative below G = {turn:.2f}: "
        f"not clipped, {_told(found, rules, None)}; G = 8, {_told(found, rules, 8.0)}"
    )
    row = Comparison(
        "clipping the range of gradients helps to avoid highly suboptimal solutions", ours,
        "does not hold" if biased else "not run" if request.quick else "differs",
        "Section 3, after Theorem 3",
    )  # fmt: skip
    note = (
        f"C = {law.C:g}, d = {law.d:g}, eta_t = 0.1 / sqrt(t), {seeds} seeds, T = {steps:,}; w is "
        "the mean over the last tenth, -1 is best. Clipping by norm is the same in one dimension.",
    )
    return Report(
        "Value clipping on the problem of Theorem 3", (row,), (record.path, picture), note
    )


def _told(
    found: dict[tuple[str, float | None], float], rules: tuple[str, ...], limit: float | None
) -> str:
    return ", ".join(f"{rule} w = {found[rule, limit]:+.2f}" for rule in rules)


def _draw(found: dict[tuple[str, float | None], float], rules: tuple[str, ...], path: Path) -> Path:
    """Draw the mean gradient against G, and where the rules are at some of them."""
    from coarsegrad.theory.online import Lottery

    figure, (left, right) = canvas(8.4, 3.2, columns=2)
    limits = [0.05 * k for k in range(1, 241)]
    left.plot(limits, [Lottery().drift(G) for G in limits], color=COLOURS[0], linewidth=1.5)
    left.axhline(0, color="#2b3440", linewidth=0.8)
    left.set(xlabel="clipped at G", ylabel="mean gradient")
    for colour, mark, rule in zip(COLOURS, "os^D", rules, strict=False):
        right.plot(range(len(LIMITS)), [found[rule, limit] for limit in LIMITS], mark + "-",
                   color=colour, markersize=5, linewidth=1, label=rule)  # fmt: skip
    right.set_xticks(range(len(LIMITS)), ["none" if G is None else f"{G:g}" for G in LIMITS])
    right.set(xlabel="clipped at G", ylabel="w at the end (-1 is best)", ylim=(-1.08, 1.08))
    right.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=8,
                 columnspacing=1, handlelength=1.4)  # fmt: skip
    return save(figure, path)
