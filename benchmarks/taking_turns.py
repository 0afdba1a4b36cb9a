"""Contestants of a row take turns in one process, so that a noisy machine is noisy for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

ROUNDS = 11
Row = tuple[str, str, float, float, float, bool]  # path, measure, value, must, stretch, at least


def block(run: Callable[[], object], seconds: float = 0.02) -> Callable[[], float]:
    """A contestant that times itself: the least of as many calls as fill ``seconds``."""
    run()
    start = time.perf_counter()
    run()
    calls = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))

    def timed() -> float:
        least = float("inf")
        for _ in range(calls):
            begin = time.perf_counter()
            run()
            least = min(least, time.perf_counter() - begin)
        return least

    return timed


def turns(contestants: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(run())
    return {name: statistics.median(found) for name, found in times.items()}


def best(times: dict[str, float], kind: str) -> float:
    return min(seconds for name, seconds in times.items() if kind in name)
