r"""Theorem 4 and Corollary 4, as printed and as they can be proved, evaluated along a run.

The corrected form, for convex f_t, g_t = grad f_t(w~_t) and beta_1t that does not rise::

    R_T <= D^2 sqrt(T) / (2 eta (1 - b1)) sum_i (sqrt(vtilde_T) + TV-)                    distance
         + D^2 / (2 (1 - b1)) sum_t sum_i b_1t sqrt(vtilde_t) / eta_t                     momentum
         + s eta sqrt(1 + log T) / ((1 - b1)^2 (1 - b1 / sqrt(b2)) sqrt(1 - b2)) sum_i |g_{1:T}|
                                                                                          gradients
         + sum_t |g_t|_{H_t^-1} |w_t - w~_t|_{H_t},   H_t = diag(sqrt(vtilde_t))        quantization

TV- = sum_t (sqrt(vtilde_{t-1}) - sqrt(vtilde_t))_+ is 0 for AMSGrad, and s = max sqrt(v / vtilde)
is the price of c_u. It follows from <g_t, w~_t - w*> = <g_t, w_t - w*> + <g_t, w~_t - w_t>, the
proof of Reddi et al. for the first and Cauchy-Schwarz for the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from coarsegrad.theory.online.trace import Trace

Verdict = Literal["holds", "violated"]


@final
@dataclass(frozen=True)
class Bound:
    """A bound on R_T, term by term, beside the R_T of a run.

    Attributes:
        regret: R_T.
        distance: the term of the diameter and the last second moment.
        momentum: the term of beta_1t.
        gradients: the term of the gradients' norm, or of alpha's.
        quantization: the term of the quantization error.
    """

    regret: float
    distance: float
    momentum: float
    gradients: float
    quantization: float

    @property
    def total(self) -> float:
        """The right side."""
        return self.distance + self.momentum + self.gradients + self.quantization

    @property
    def verdict(self) -> Verdict:
        """``holds`` where R_T is at most the right side."""
        return "holds" if self.regret <= self.total else "violated"


def corrected(run: Trace, D: float = 2.0) -> Bound:
    """Return the corrected Theorem 4 along a run with eta_t = eta / sqrt(t).

    Args:
        run: of any rule with a second moment, on convex losses.
        D: the diameter of F in one coordinate.

    Raises:
        ValueError: the run's eta does not fall, or beta1 >= sqrt(beta2).

    >>> from coarsegrad.theory.online import Setting, reddi2, trace, twins
    >>> toy = reddi2()
    >>> run = trace(twins()["AMSGrad"], toy, 1000, Setting(betas=toy.betas))
    >>> corrected(run).verdict
    'holds'
    """
    beta1, factor = _factor(run)
    root, size = np.sqrt(run.value), np.abs(run.g)
    steps, eta = len(run.eta), float(run.eta[0])
    falls = np.maximum(-np.diff(root, axis=0), 0).sum()
    # Before the first gradient both are 0, and nothing has been lost.
    price = float(np.sqrt(np.divide(run.v, run.value, out=np.zeros_like(run.v),
                                    where=run.value > 0)).max())  # fmt: skip
    if ((run.value == 0) & (run.v > 0)).any():
        price = math.inf
    dual = np.divide(size * size, root, out=np.zeros_like(root), where=root > 0)
    error = (root * (run.w - run.x) ** 2).sum(1)
    return Bound(
        run.total,
        D * D * math.sqrt(steps) / (2 * eta * (1 - beta1)) * float(root[-1].sum() + falls),
        D * D / (2 * (1 - beta1)) * float((run.beta1[:, None] * root / run.eta[:, None]).sum()),
        price * factor * float(np.linalg.norm(run.g, axis=0).sum()),
        float((np.sqrt(dual.sum(1)) * np.sqrt(error)).sum()),
    )


def printed_theorem(run: Trace, L: float, D: float = 2.0, *, alpha: float | None = None) -> Bound:
    """Return Theorem 4 as printed; vhat_T is the largest v of the run, as AMSGrad keeps it.

    Args:
        run: the run.
        L: L_inf, the Lipschitz constant of the losses on F.
        D: D_inf.
        alpha: read the third term's alpha_{1:T} as this scale, T times; None reads it as g_{1:T},
            which has the right unit.

    Raises:
        ValueError: the run's eta does not fall, or beta1 >= sqrt(beta2).
    """
    beta1, _ = _factor(run)
    distance, peak = _distance(run, D)
    before = np.concatenate([np.zeros_like(run.value[:1]), run.value[:-1]])
    error = np.sqrt((np.sqrt(before) * (run.w - _binary(run, alpha)) ** 2).sum(1))
    return Bound(
        run.total,
        distance,
        D * D / (2 * (1 - beta1)) * float((run.beta1 / run.eta).sum() * peak),
        _third(run, alpha),
        L * D * float(np.sqrt(error).sum()),
    )


def printed_corollary(
    run: Trace, L: float, G: float, scale: float, D: float = 2.0, *, alpha: float | None = None
) -> Bound:
    """Return Corollary 4 as printed, whose last term does not grow with T.

    Args:
        run: the run.
        L: L_inf.
        G: G_inf, the largest gradient.
        scale: the alpha of the last term; the largest of the run is the kindest reading.
        D: D_inf.
        alpha: as for ``printed_theorem``.

    Raises:
        ValueError: the run's eta does not fall, or beta1 >= sqrt(beta2).
    """
    beta1, _ = _factor(run)
    ratio = beta1 / math.sqrt(run.setting.betas[1]) if beta1 else 0.0
    dimension = run.w.shape[1]
    return Bound(
        run.total,
        _distance(run, D)[0],
        beta1 * D * D * G / (2 * (1 - beta1) * (1 - ratio) ** 2),
        _third(run, alpha),
        L * D * math.sqrt(D + (scale * dimension) ** 2),
    )


def _binary(run: Trace, alpha: float | None) -> np.ndarray:
    """Return alpha* sign(w); the points of a binary run are just that."""
    if not np.array_equal(run.x, run.w):
        return run.x
    return (1.0 if alpha is None else alpha) * np.where(run.w >= 0, 1.0, -1.0)


def _distance(run: Trace, D: float) -> tuple[float, float]:
    """Return the printed first term, and sum_i sqrt(vhat_T)."""
    peak = float(np.sqrt(run.v.max(0)).sum())
    factor = D * D * math.sqrt(len(run.eta)) / (float(run.eta[0]) * (1 - run.setting.betas[0]))
    return factor * peak, peak


def _third(run: Trace, alpha: float | None) -> float:
    steps, dimension = run.g.shape
    norms = np.linalg.norm(run.g, axis=0).sum()
    return _factor(run)[1] * (
        float(norms) if alpha is None else dimension * alpha * math.sqrt(steps)
    )


def _factor(run: Trace) -> tuple[float, float]:
    """Return beta1, and the factor of the third term."""
    beta1, beta2 = run.setting.betas
    ratio = beta1 / math.sqrt(beta2) if beta1 else 0.0
    if not run.setting.invsqrt or ratio >= 1:
        raise ValueError(
            "Theorem 4 needs eta_t = eta / sqrt(t) and beta1 < sqrt(beta2), got "
            f"invsqrt={run.setting.invsqrt} and betas {run.setting.betas}"
        )
    eta, steps = float(run.eta[0]), len(run.eta)
    grows = eta * math.sqrt(1 + math.log(steps))
    return beta1, grows / ((1 - beta1) ** 2 * (1 - ratio) * math.sqrt(1 - beta2))
