"""What all rules share: the step size and its decay, the moments' factors, the box."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

Number = float | NDArray[np.float64]
Step = Callable[[Any, Any, int], tuple[Any, Any, Any]]
"""step(w, g, t) -> (the next w, vtilde, v): sqrt(vtilde) divides the step, v is raw."""


@final
@dataclass(frozen=True)
class Setting:
    """How a rule is run; the defaults are Algorithm 1's, and Reddi et al.'s.

    Args:
        eta: the initial step size; an array runs several side by side.
        betas: (beta1, beta2), each in [0, 1).
        invsqrt: eta_t = eta / sqrt(t), else eta.
        bias_correction: whether the step corrects the moments' start at zero, as torch does.
        beta1_decay: ``"constant"``; ``"power"``, beta1 (beta1 / sqrt(beta2))^(t-1) as in Corollary
            4; ``"inverse"``, beta1 / t.
        eps: keeps the denominator from 0, in units of g.
        box: F = [low, high], or None.

    Raises:
        ValueError: a number is outside its range; bias correction is asked for with a beta1 that
            decays, which nothing here needs.

    >>> Setting().rates()(4), Setting(betas=(0.5, 0.9), beta1_decay="inverse").momenta()(5)
    (0.05, 0.1)
    """

    eta: Number = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    invsqrt: bool = True
    bias_correction: bool = False
    beta1_decay: Literal["constant", "power", "inverse"] = "constant"
    eps: float = 1e-8
    box: tuple[float, float] | None = (-1.0, 1.0)

    def __post_init__(self) -> None:
        beta1, beta2 = self.betas
        low, high = self.box or (0.0, 1.0)
        ranges = (
            ("eta finite and > 0", self.eta, bool(np.all(np.isfinite(self.eta)))
             and bool(np.all(np.asarray(self.eta) > 0))),
            ("betas in [0, 1)", self.betas, 0 <= beta1 < 1 and 0 <= beta2 < 1),
            ("eps finite and > 0", self.eps, 0 < self.eps < math.inf),
            ("box (low, high) with low < high, or None", self.box, low < high),
            ("beta1_decay constant, power or inverse", self.beta1_decay,
             self.beta1_decay in ("constant", "power", "inverse")),
            ("beta1 < sqrt(beta2) with beta1_decay='power'", self.betas,
             self.beta1_decay != "power" or beta1**2 < beta2 or beta1 == 0),
            ("a constant beta1 with bias_correction", self.beta1_decay,
             not self.bias_correction or self.beta1_decay == "constant"),
        )  # fmt: skip
        for needed, given, allowed in ranges:
            if not allowed:
                raise ValueError(f"Setting needs {needed}, got {given!r}")

    def rates(self) -> Callable[[int], Any]:
        """Return eta_t as a function of t."""
        eta, root = self.eta, math.sqrt
        if self.invsqrt:
            return lambda t: eta / root(t)
        return lambda t: eta

    def momenta(self) -> Callable[[int], float]:
        """Return beta_1t as a function of t."""
        beta1, beta2 = self.betas
        if self.beta1_decay == "power":
            ratio = beta1 / math.sqrt(beta2) if beta1 else 0.0
            return lambda t: beta1 * ratio ** (t - 1)
        if self.beta1_decay == "inverse":
            return lambda t: beta1 / t
        return lambda t: beta1

    def sizes(self) -> Callable[[int], tuple[Any, float]]:
        """Return (eta_t / (1 - beta1^t), sqrt(1 - beta2^t)) as a function of t.

        Without bias correction it is (eta_t, 1).
        """
        rate, (beta1, beta2) = self.rates(), self.betas
        if not self.bias_correction:
            return lambda t: (rate(t), 1.0)
        return lambda t: (rate(t) / (1 - beta1**t), math.sqrt(1 - beta2**t))
