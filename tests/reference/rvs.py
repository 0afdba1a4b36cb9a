"""RVSCGD in float64: Algorithm 1 and the ADMM of section 3.3 around a given inner step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def soft(x: Array, r: float) -> Array:
    return np.sign(x) * np.maximum(np.abs(x) - r, 0)


def hard(x: Array, r: float) -> Array:
    return np.where(np.abs(x) > np.sqrt(2 * r), x, 0)


@dataclass
class Reference:
    """``inner`` maps weights and a gradient to the next weights; z stays 0 without ``admm``."""

    w: Array
    inner: Callable[[Array, Array], Array]
    prox: Callable[[Array, float], Array]
    lam: float
    beta: float
    lr: float
    warmup: int = 0
    normalize: bool = False
    admm: bool = False
    every: int = 0
    t: int = 0

    def __post_init__(self) -> None:
        self.z = np.zeros_like(self.w)
        self.support = np.ones_like(self.w)

    @property
    def u(self) -> Array:
        lam = self.lam * min(1.0, self.t / self.warmup) if self.warmup else self.lam
        return self.support * self.prox(self.w + self.z / self.beta, lam / self.beta)

    def step(self, g: Array) -> None:
        self.t += 1
        u = self.u
        w_hat = self.w - self.lr * (self.z + self.beta * (self.w - u))
        self.w = self.inner(w_hat, g) * self.support
        if self.normalize:
            self.w = self.w / np.sqrt((self.w**2).sum())
        if self.admm:
            self.z = self.z + self.beta * (self.w - u)
        if self.every and self.t % self.every == 0:
            self.w = self.u
            self.support = (self.w != 0).astype(np.float64)
