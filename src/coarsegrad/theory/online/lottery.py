r"""Theorem 3: losses drawn at random, and what clipping their gradients does to the expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Lottery:
    r"""f_t(x) = C x with probability p = (1 + d) / (C + 1), else -x: the slope d on average.

    Args:
        C: the rare slope.
        d: the mean slope, > 0, so that -1 is best.
        clip: G, to which optimizers get their gradients clipped by value, or None.

    Raises:
        ValueError: C is not above 1, d is not in (0, C), or G is not above 0.

    >>> law = Lottery()
    >>> round(law.gap, 4), round(law.drift(8.0), 4)
    (0.2, -0.1)
    """

    C: float = 10.0
    d: float = 0.1
    clip: float | None = None

    def __post_init__(self) -> None:
        if not (self.C > 1 and 0 < self.d < self.C and (self.clip is None or self.clip > 0)):
            raise ValueError(
                "Lottery needs C > 1, d in (0, C) and clip > 0 or None, got "
                f"C={self.C}, d={self.d}, clip={self.clip}"
            )

    @property
    def p(self) -> float:
        """The probability of the slope C."""
        return (1 + self.d) / (self.C + 1)

    @property
    def gap(self) -> float:
        """The expected average regret of staying at +1."""
        return 2 * self.d

    def drift(self, clip: float | None = None) -> float:
        """Return the mean gradient after clipping at G: p min(G, C) - (1 - p) min(G, 1).

        Below 0 it points away from the optimum, and every method that trusts it goes to +1.
        """
        limit = np.inf if clip is None else clip
        return float(self.p * min(limit, self.C) - (1 - self.p) * min(limit, 1.0))

    def draw(self, steps: int, seeds: int) -> Drawn:
        """Return the losses of so many steps for the seeds 0 to seeds - 1.

        Raises:
            ValueError: there are no steps or no seeds.

        >>> Lottery().draw(4, 2).gradient(1, np.ones(2)).shape
        (2,)
        """
        if steps < 1 or seeds < 1:
            raise ValueError(
                f"draw needs 1 or more steps and seeds, got {steps} steps, {seeds} seeds"
            )
        rare = np.stack(
            [np.random.default_rng(seed).random(steps) < self.p for seed in range(seeds)], axis=1
        )
        return Drawn(self, rare)


@final
@dataclass(frozen=True, eq=False)
class Drawn:
    """What a ``Lottery`` drew: a problem for ``seeds`` runs at once.

    Attributes:
        law: the lottery.
        rare: (steps, seeds), where the slope is C.
    """

    law: Lottery
    rare: NDArray[np.bool_]

    def point(self, w: Any) -> Any:
        """Return w."""
        return w

    def gradient(self, t: int, x: Any) -> Floats:
        """Return the slopes of step t, (seeds,), clipped if the law says so."""
        limit = np.inf if self.law.clip is None else self.law.clip
        return np.where(self.rare[t - 1], min(self.law.C, limit), -min(1.0, limit))

    def regret(self, t: int, x: Any) -> Any:
        """Return the expected regret d (x + 1): the drawn one is this plus noise."""
        return self.law.d * (x + 1)
