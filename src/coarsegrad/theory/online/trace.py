"""A run written down step by step, for what is said of whole runs: the monitors and the bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import DivergenceError
from coarsegrad.theory.online.numbers import numbers_for
from coarsegrad.theory.online.problems import Problem
from coarsegrad.theory.online.setting import Setting
from coarsegrad.theory.online.twins import Twin

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Trace:
    """What happened in each step; arrays of shape (T, d), but for those of shape (T,).

    Attributes:
        setting: the setting of the run.
        w: the latent w_t.
        x: the point w~_t at which the losses are taken.
        g: the gradient at x_t.
        shadow: the gradient at w_t, of the same losses without quantization.
        value: vtilde_t.
        v: the raw second moment v_t.
        eta: eta_t, (T,).
        regret: f_t(x_t) - f_t(x*), (T,).
    """

    setting: Setting
    w: Floats
    x: Floats
    g: Floats
    shadow: Floats
    value: Floats
    v: Floats
    eta: Floats
    regret: Floats

    @property
    def total(self) -> float:
        """R_T."""
        return float(self.regret.sum())

    @property
    def beta1(self) -> Floats:
        """beta_1t of each step, (T,)."""
        momentum = self.setting.momenta()
        return np.array([momentum(t) for t in range(1, len(self.eta) + 1)])


def trace(
    twin: Twin, problem: Problem, steps: int, setting: Setting | None = None, *,
    start: float | Floats = 1.0,
) -> Trace:  # fmt: skip
    """Run a rule and write everything down: 100 bytes a step and coordinate.

    Args:
        twin: the rule; Bop, which has no second moment, is refused.
        problem: the losses.
        steps: T.
        setting: with a single eta.
        start: w_1, a float or the coordinates of one w, (d,).

    Raises:
        ValueError: there are no steps, eta is an array, or the rule has no second moment.
        DivergenceError: a weight is no longer finite.

    >>> from coarsegrad.theory.online.problems import reddi1
    >>> from coarsegrad.theory.online.twins import twins
    >>> trace(twins()["SGD"], reddi1(), 5).g[:, 0].tolist()
    [4.0, -1.0, -1.0, 4.0, -1.0]
    """
    setting = setting or Setting()
    if steps < 1 or isinstance(setting.eta, np.ndarray):
        raise ValueError(f"trace needs 1 or more steps and one eta, got {steps} and {setting.eta}")
    step = twin(setting, numbers_for(start))
    rows: list[tuple[object, ...]] = []
    w = start
    for t in range(1, steps + 1):
        x = problem.point(w)
        g = problem.gradient(t, x)
        shadow = g if x is w else problem.gradient(t, w)
        after, value, v = step(w, g, t)
        rows.append((w, x, g, shadow, value, v, problem.regret(t, x)))
        w = after
    return _written(setting, rows)


def _written(setting: Setting, rows: list[tuple[object, ...]]) -> Trace:
    columns = [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]
    w = columns[0].reshape(len(rows), -1)
    w, x, g, shadow, value, v = (
        np.broadcast_to(c.reshape(len(rows), -1), w.shape) for c in columns[:6]
    )
    if not np.isfinite(w).all():
        at = int(np.argmin(np.isfinite(w).all(1))) + 1
        raise DivergenceError(
            f"the run diverged at iteration {at}: w = {w[at - 1].tolist()}; "
            "take a smaller eta, or a box"
        )
    if np.isnan(value).any():
        raise ValueError("trace needs a rule with a second moment, got one without, as Bop")
    rate = setting.rates()
    eta = np.array([rate(t) for t in range(1, len(rows) + 1)])
    return Trace(setting, w, x, g, shadow, value, v, eta, columns[6].reshape(-1))
