r"""Equation (1): Upsilon_t and Gamma_t along a run.

::

    Upsilon_t = sqrt(V_t) / eta_t - sqrt(V_{t-1}) / eta_{t-1},    V_0 = 0
    Gamma_t   = min |Upsilon~_t - Upsilon_t|

The printed text lost the minus of Upsilon_t. V is diagonal, so that "positive semi-definite" means
that no element is negative. Two readings of the pair in Gamma_t: the projected second moment beside
the raw one, and the binary model's beside that of full precision at the same weights. The minimum
over V~ is attained by the run's own V~: it has no other. Neither predicts convergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from coarsegrad.theory.online.trace import Trace

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Monitor:
    """Equation (1) along a run; arrays of shape (T,).

    Attributes:
        negative: n-_t, the share of elements with Upsilon~_t below 0.
        projected: RMS of Upsilon~ - Upsilon(raw v).
        quantized: RMS of Upsilon~ - Upsilon(v of the gradients at the latent weights).
    """

    negative: Floats
    projected: Floats
    quantized: Floats

    @property
    def share(self) -> float:
        """The share of steps and elements in which Upsilon~ falls."""
        return float(self.negative.mean())


def upsilon(value: Floats, eta: Floats) -> Floats:
    """Return Upsilon_t of a second moment, (T, d), for t = 1 .. T.

    >>> upsilon(np.array([[1.0], [1.0]]), np.array([1.0, 0.5])).tolist()
    [[1.0], [1.0]]
    """
    scaled = np.sqrt(value) / eta[:, None]
    return np.diff(scaled, axis=0, prepend=0.0)


def moment(g: Floats, beta2: float) -> Floats:
    """Return v_t = beta2 v_{t-1} + (1 - beta2) g_t^2, (T, d).

    >>> moment(np.array([[2.0], [0.0]]), 0.5).tolist()
    [[2.0], [1.0]]
    """
    v, rows = np.zeros(g.shape[1]), []
    for square in (1 - beta2) * g * g:
        v = beta2 * v + square
        rows.append(v)
    return np.stack(rows)


def monitors(run: Trace) -> Monitor:
    """Return equation (1) along a run, in both readings.

    A fall of less than 1e-12 of the scale is rounding, and does not count.

    >>> from coarsegrad.theory.online import Setting, reddi2, trace, twins
    >>> toy = reddi2()
    >>> run = trace(twins()["Adam"], toy, 1000, Setting(betas=toy.betas))
    >>> round(monitors(run).share, 1)
    0.9
    """
    ours = upsilon(run.value, run.eta)
    slack = 1e-12 * np.sqrt(run.value) / run.eta[:, None]
    shadow = moment(run.shadow, run.setting.betas[1])
    return Monitor(
        (ours < -slack).mean(1),
        _rms(ours - upsilon(run.v, run.eta)),
        _rms(ours - upsilon(shadow, run.eta)),
    )


def _rms(x: Floats) -> Floats:
    return np.asarray(np.sqrt((x * x).mean(1)))
