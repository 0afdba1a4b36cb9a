"""BAMSProd in float64 and the paper's symbols, element by element: the oracle of the fast code."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """Algorithm 1 on one tensor w, with the one-pass statistics of the specification.

    n, c, c_l and c_u are columns: one row, or one a channel for ``per="channel"``.
    """

    w: Array
    eta: float
    beta_1: float = 0.9
    beta_2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    gamma: float | None = None
    kappa: float = 1.0
    rho_min: float = 0.1
    cstar: str = "relative"
    constant: float = 1.0
    L_inf: float = 1.0
    D_inf: float = 2.0
    alpha: float | None = None
    reduce: str | tuple[str, float] = "mean"
    per: str = "tensor"
    space: str = "v"
    vhat: str = "max"
    bias_correction: bool = True
    lr_decay: str = "none"
    beta1_decay: str = "constant"
    beta1_lambda: float = 0.999
    box: tuple[float, float] | None = (-1.0, 1.0)
    binary: bool = True
    t: int = 0
    beta_1_product: float = 1.0
    n: Array = field(init=False)
    c: Array = field(init=False)
    c_l: Array = field(init=False)
    c_u: Array = field(init=False)
    m: Array = field(init=False)
    v: Array = field(init=False)
    v_hat: Array = field(init=False)

    def __post_init__(self) -> None:
        self.m, self.v, self.v_hat = (np.zeros_like(self.w) for _ in range(3))
        self.gamma = 1 - self.beta_2 if self.gamma is None else self.gamma
        rows = len(self.w) if self.per == "channel" and self.w.ndim > 1 else 1
        self.n, self.c, self.c_l = (np.zeros((rows, 1)) for _ in range(3))
        self.c_u = np.full((rows, 1), math.inf)

    def step(self, g: Array) -> None:
        self.t += 1
        beta_1t = self.beta_1
        if self.beta1_decay == "power":
            beta_1t *= self.beta1_lambda ** (self.t - 1)
        elif self.beta1_decay == "inverse":
            beta_1t /= self.t
        self.beta_1_product *= beta_1t
        self.m = beta_1t * self.m + (1 - beta_1t) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        if self.vhat == "max":
            self.v_hat = np.maximum(self.v_hat, self.v)
        else:
            self.v_hat = self.v_hat + (self.v - self.v_hat) / self.t
        if self.binary and self.cstar == "constant":
            self.learn(np.full_like(self.c, self.constant), ahead=0)
        value = self.slices(self.v_hat if self.space == "v" else np.sqrt(self.v_hat))
        if self.binary:
            value = np.clip(value, self.c_l, self.c_u)
        root = np.sqrt(value) if self.space == "v" else value
        eta_t = self.eta / math.sqrt(self.t) if self.lr_decay == "invsqrt" else self.eta
        size = eta_t
        if self.bias_correction:
            size *= math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1_product)
        denominator = np.maximum(root, self.eps).reshape(self.w.shape)
        self.w = (1 - eta_t * self.weight_decay) * self.w - size * self.m / denominator
        if self.binary and self.box is not None:
            self.w = np.clip(self.w, *self.box)
        if self.binary and self.cstar != "constant":
            self.learn(self.c_hat(), ahead=1)

    def slices(self, x: Array) -> Array:
        """One row for each interval."""
        return x.reshape(len(self.c), -1)

    def learn(self, c_hat: Array, ahead: int) -> None:
        """Take an estimate of c* into c, and close the intervals that have seen a gradient."""
        n = self.n + 1
        kind, number = self.reduce if isinstance(self.reduce, tuple) else _full(self.reduce)
        weight = 1 / n
        if kind == "ema":
            weight = np.where(n == 1, 1.0, 1 - number)
        elif kind == "freeze":
            weight = np.where(n <= number, weight, 0.0)
        c = self.c + weight * (c_hat - self.c)
        x = self.gamma * (n + ahead)
        limit = c if self.space == "v" else np.sqrt(c)
        r_l, r_u = limit * x / (1 + x), limit * (1 + x) / x
        c_u = np.minimum(self.c_u, np.maximum(r_u, self.c_l))
        c_l = np.maximum(self.c_l, np.minimum(r_l, c_u))
        seen = self.slices(self.v_hat).sum(1, keepdims=True) > 0
        old = self.n, self.c, self.c_l, self.c_u
        self.n, self.c, self.c_l, self.c_u = (
            np.where(seen, new, kept) for new, kept in zip((n, c, c_l, c_u), old, strict=True)
        )

    def c_hat(self) -> Array:
        W = np.abs(self.w.reshape(len(self.w), -1) if self.w.ndim > 1 else self.w.reshape(1, -1))
        h = np.sqrt(self.v_hat).reshape(W.shape)
        mean = self.slices(self.v_hat).mean(1, keepdims=True)
        if self.cstar == "grad":
            return self.kappa**2 * mean
        alpha = W.mean(1, keepdims=True) if self.alpha is None else self.alpha
        error = self.slices(h * (W - alpha) ** 2).sum(1, keepdims=True)
        if self.cstar == "literal":
            return self.L_inf * self.D_inf * np.sqrt(error)
        size = self.slices(h * W**2).sum(1, keepdims=True)
        ratio = np.divide(error, size, out=np.ones_like(size), where=size > 0)
        rho_2 = np.clip(ratio, self.rho_min**2, 1)
        return np.asarray(self.kappa**2 * rho_2 * mean)


def _full(word: str) -> tuple[str, float]:
    return word, {"mean": 0.0, "ema": 0.99, "freeze": 100.0}[word]


def from_options(w: Array, lr: float, options: dict[str, Any]) -> Reference:
    """Return the twin of ``BAMSProd(lr=lr, **options)``."""
    rest = {**options}
    beta_1, beta_2 = rest.pop("betas", (0.9, 0.999))
    constant = rest.pop("c", 1.0)
    return Reference(w, lr, beta_1=beta_1, beta_2=beta_2, constant=constant, **rest)
