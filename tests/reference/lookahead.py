"""Lookahead in float64: Algorithm 1 of arXiv:1907.08610 around a given inner step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """phi are the slow weights; ``inner`` maps fast weights and a gradient to the next ones."""

    theta: Array
    inner: Callable[[Array, Array], Array]
    k: int = 5
    alpha: float = 0.5
    flips: bool = False
    t: int = 0

    def __post_init__(self) -> None:
        self.phi = self.theta.copy()

    def step(self, g: Array) -> None:
        self.theta = self.inner(self.theta, g)
        self.t += 1
        if self.t % self.k == 0:
            self.phi = self.phi + self.alpha * (self.theta - self.phi)
            if self.flips:
                self.theta = np.where(self.phi == 0, self.theta, np.sign(self.phi))
            else:
                self.theta = self.phi.copy()
