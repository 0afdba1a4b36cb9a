"""Clipped and normalised gradient descent in float64: equations (7) and (8) of arXiv:1905.11881."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Reference:
    """All tensors x of one optimizer; ``rule`` is 7 (``bound`` = gamma) or 8 (``bound`` = beta)."""

    x: list[Array]
    eta: float
    bound: float
    rule: int
    momentum: float = 0.0
    weight_decay: float = 0.0
    norm: str = "global"
    box: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.m = [np.zeros_like(x) for x in self.x]

    def h(self, norm: float) -> float:
        """The rate of a gradient of this norm."""
        if self.rule == 8:
            return self.eta / (norm + self.bound)
        return min(self.eta, self.bound * self.eta / norm) if norm > 0 else self.eta

    def step(self, gradients: list[Array]) -> None:
        whole = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        for i, g in enumerate(gradients):
            norm = whole if self.norm == "global" else math.sqrt(float((g**2).sum()))
            self.m[i] = self.momentum * self.m[i] - self.h(norm) * g
            self.x[i] = (1 - self.eta * self.weight_decay) * self.x[i] + self.m[i]
            if self.box is not None:
                self.x[i] = np.clip(self.x[i], *self.box)
