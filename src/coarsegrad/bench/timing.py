"""Timing on a shared machine: contestants take turns, a round's figure is a mean of many calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Run = Callable[[], object]


def medians(
    contestants: Mapping[str, Run], *, rounds: int = 15, block: float = 0.01
) -> dict[str, float]:
    """Return each contestant's median seconds per call.

    In each round every contestant runs in turn, for about ``block`` seconds, so that a change of
    clock or load meets all of them; the first block of each is not counted.

    Raises:
        ValueError: ``rounds`` is less than 1.

    >>> sorted(medians({"a": lambda: None, "b": lambda: None}, rounds=3, block=1e-4))
    ['a', 'b']
    """
    if rounds < 1:
        raise ValueError(f"medians needs rounds >= 1, got {rounds}")
    calls = {name: _calls(run, block) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(_seconds(run, calls[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def _seconds(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def _calls(run: Run, block: float) -> int:
    """Return how many calls take about ``block`` seconds; warms the contestant up."""
    _seconds(run, 3)
    return max(1, round(block / max(_seconds(run, 3), 1e-7)))
