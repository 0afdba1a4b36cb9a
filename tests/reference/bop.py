"""Bop and Bop2ndOrder in float64, weight by weight, in the papers' symbols."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """Algorithm 1 of arXiv:1906.02107; with ``sigma`` the second order rule of arXiv:2104.05124."""

    w: Array
    gamma: float
    tau: float
    sigma: float | None = None
    eps: float = 1e-10
    unbiased: bool = False

    def __post_init__(self) -> None:
        self.m, self.v = np.zeros_like(self.w), np.zeros_like(self.w)

    def step(self, g: Array) -> None:
        self.w = self.w.copy()
        for i in np.ndindex(self.w.shape):
            self.m[i] = (1 - self.gamma) * self.m[i] + self.gamma * g[i]
            argument = self.m[i]
            if self.sigma is not None:
                self.v[i] = (1 - self.sigma) * self.v[i] + self.sigma * g[i] ** 2
                if self.unbiased:
                    root = math.sqrt(self.v[i] / self.sigma)
                    argument = (self.m[i] / self.gamma) / (root + self.eps)
                else:
                    argument = self.m[i] / (math.sqrt(self.v[i]) + self.eps)
            if self.w[i] * argument > self.tau:
                self.w[i] = -self.w[i]
