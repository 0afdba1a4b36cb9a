"""A rule plays a problem: its average regret along the way, and where it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from coarsegrad.errors import DivergenceError
from coarsegrad.theory.online.numbers import numbers_for
from coarsegrad.theory.online.problems import Problem
from coarsegrad.theory.online.setting import Setting
from coarsegrad.theory.online.twins import Twin

Play = Callable[[Any, Any, int], tuple[Any, Any, Any]]


@final
@dataclass(frozen=True)
class Mark:
    """What a run looks like after step t; each of its numbers is an array for runs side by side.

    Attributes:
        t: the number of steps.
        average: R_t / t.
        w: the last iterate.
        recent: the mean of w since the mark before.
    """

    t: int
    average: Any
    w: Any
    recent: Any


def marks(steps: int, per_decade: int = 4) -> tuple[int, ...]:
    """Return the steps at which a run is looked at, evenly spaced in log t, the last one included.

    >>> marks(1000, per_decade=2)
    (10, 32, 100, 316, 900, 1000)
    """
    if steps < 1:
        raise ValueError(f"marks needs 1 or more steps, got {steps}")
    count = int(per_decade * math.log10(steps))
    found = {round(10 ** (k / per_decade)) for k in range(per_decade, count + 1)}
    # The last tenth is what ``recent`` of the last mark averages over.
    return tuple(sorted({t for t in found if t < 0.9 * steps} | {max(1, 9 * steps // 10), steps}))


def play(
    twin: Twin, problem: Problem, steps: int, setting: Setting | None = None, *,
    start: Any = 1.0, at: Sequence[int] = (), watch: Callable[[], None] | None = None,
) -> tuple[Mark, ...]:  # fmt: skip
    """Run a rule for so many steps and return what it was like at the marks.

    About a microsecond and a half a step on floats. If ``start``, eta or the losses are arrays,
    their elements are runs side by side, at some 30 microseconds a step.

    Args:
        twin: the rule, one of ``twins()``.
        problem: the losses.
        steps: T.
        setting: step size and betas.
        start: w_1, a float or an array.
        at: where to look; empty takes ``marks(steps)``.
        watch: called at each mark; it may raise to stop.

    Raises:
        ValueError: there are no steps, or a mark is not among them.
        DivergenceError: a weight or the regret is no longer finite.

    >>> from coarsegrad.theory.online.problems import reddi1
    >>> from coarsegrad.theory.online.twins import twins
    >>> last = play(twins()["Adam"], reddi1(), 3000, Setting(betas=(0.0, 1 / 17)))[-1]
    >>> round(last.average, 1), round(last.w, 1)
    (1.3, 1.0)
    """
    setting = setting or Setting()
    sample = problem.gradient(1, problem.point(start))
    step = twin(setting, numbers_for(start, setting.eta, sample))
    return _played(step, problem, start, _places(steps, at), watch)


def _places(steps: int, at: Sequence[int]) -> tuple[int, ...]:
    places = tuple(sorted(at)) or marks(steps)
    if places[0] < 1 or places[-1] > steps:
        raise ValueError(f"play needs marks from 1 to {steps}, got {places[0]} to {places[-1]}")
    return places


def _played(
    step: Play, problem: Problem, w: Any, places: Sequence[int],
    watch: Callable[[], None] | None,
) -> tuple[Mark, ...]:  # fmt: skip
    point, gradient, regret = problem.point, problem.gradient, problem.regret
    total, done, found = 0.0, 0, []
    for place in places:
        recent = 0.0
        for t in range(done + 1, place + 1):
            x = point(w)
            total = total + regret(t, x)
            recent = recent + w
            w = step(w, gradient(t, x), t)[0]
        if not (np.all(np.isfinite(w)) and np.all(np.isfinite(total))):
            raise DivergenceError(
                f"the run diverged by iteration {place}: w = {w}, R_t = {total}; "
                "take a smaller eta, or a box"
            )
        found.append(Mark(place, total / place, w, recent / (place - done)))
        done = place
        if watch is not None:
            watch()
    return tuple(found)
