"""AdaBound and AMSBound in float64, in the symbols of the authors' code and paper."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """Algorithm 2 of arXiv:1902.09843 in the form of the code; ``alpha`` may change at any time."""

    x: Array
    alpha: float
    beta_1: float = 0.9
    beta_2: float = 0.999
    final_lr: float = 0.1
    gamma: float = 1e-3
    eps: float = 1e-8
    weight_decay: float = 0.0
    bias_correction: bool = True
    amsbound: bool = False
    F: tuple[float, float] | None = None
    t: int = 0
    base_lr: float = field(init=False)

    def __post_init__(self) -> None:
        self.base_lr = self.alpha
        self.m, self.V, self.V_max = (np.zeros_like(self.x) for _ in range(3))

    def step(self, g: Array) -> None:
        self.t += 1
        t, alpha = self.t, self.alpha
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.V = self.beta_2 * self.V + (1 - self.beta_2) * g**2
        self.V_max = np.maximum(self.V_max, self.V)
        denominator = np.sqrt(self.V_max if self.amsbound else self.V) + self.eps
        if self.bias_correction:
            alpha = alpha * math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        final = self.final_lr * self.alpha / self.base_lr
        eta_l = final * (1 - 1 / (self.gamma * t + 1))
        eta_u = final * (1 + 1 / (self.gamma * t))
        eta = np.clip(alpha / denominator, eta_l, eta_u)
        self.x = (1 - self.alpha * self.weight_decay) * self.x - eta * self.m
        if self.F is not None:
            self.x = np.clip(self.x, *self.F)
