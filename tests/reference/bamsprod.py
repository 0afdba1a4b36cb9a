"""BAMSProd in float64 and the paper's symbols, element by element: the oracle of the fast code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """Algorithm 1 on one tensor w, with the one-pass statistics of the specification."""

    w: Array
    eta: float
    beta_1: float = 0.9
    beta_2: float = 0.999
    eps: float = 1e-8
    gamma: float | None = None
    kappa: float = 1.0
    rho_min: float = 0.1
    cstar: str = "relative"
    constant: float = 1.0
    L_inf: float = 1.0
    D_inf: float = 2.0
    alpha: float | None = None
    bias_correction: bool = True
    box: tuple[float, float] | None = (-1.0, 1.0)
    t: int = 0
    n: int = 0
    c: float = 0.0
    c_l: float = 0.0
    c_u: float = math.inf
    m: Array = field(init=False)
    v: Array = field(init=False)
    v_hat: Array = field(init=False)

    def __post_init__(self) -> None:
        self.m, self.v, self.v_hat = (np.zeros_like(self.w) for _ in range(3))
        self.gamma = 1 - self.beta_2 if self.gamma is None else self.gamma

    def step(self, g: Array) -> None:
        self.t += 1
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        self.v_hat = np.maximum(self.v_hat, self.v)
        if self.cstar == "constant" and self.v_hat.sum() > 0:
            self.n += 1
            self.c = self.constant
            self.nest(self.gamma * self.n)
        v_tilde = np.clip(self.v_hat, self.c_l, self.c_u)
        eta_t = self.eta
        if self.bias_correction:
            eta_t *= math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        self.w = self.w - eta_t * self.m / np.sqrt(np.maximum(v_tilde, self.eps**2))
        if self.box is not None:
            self.w = np.clip(self.w, *self.box)
        if self.cstar != "constant" and self.v_hat.sum() > 0:
            self.n += 1
            self.c += (self.c_hat() - self.c) / self.n
            self.nest(self.gamma * (self.n + 1))

    def nest(self, x: float) -> None:
        r_l, r_u = self.c * x / (1 + x), self.c * (1 + x) / x
        self.c_u = min(self.c_u, max(r_u, self.c_l))
        self.c_l = max(self.c_l, min(r_l, self.c_u))

    def c_hat(self) -> float:
        W = np.abs(self.w.reshape(len(self.w), -1) if self.w.ndim > 1 else self.w.reshape(1, -1))
        h = np.sqrt(self.v_hat).reshape(W.shape)
        alpha = W.mean(1, keepdims=True) if self.alpha is None else self.alpha
        error = (h * (W - alpha) ** 2).sum()
        if self.cstar == "literal":
            return self.L_inf * self.D_inf * math.sqrt(error)
        size = (h * W**2).sum()
        rho_2 = np.clip(error / size, self.rho_min**2, 1) if size > 0 else 1.0
        return float(self.kappa**2 * rho_2 * self.v_hat.mean())
