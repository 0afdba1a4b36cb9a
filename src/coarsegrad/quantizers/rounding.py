r"""The three ways of a quantized ReLU to cut its input, in steps, into levels 0..q_b."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from coarsegrad.errors import nearest

Rounding = Literal["ceil", "midpoint", "round"]
"""Where a quantized ReLU cuts; ``QuantReLU`` says what each word means."""

# What ceil takes for 0: far above the rounding of a float32 step, far below any effect on accuracy.
CEIL_TOLERANCE = 2.0**-20


def check_rounding(name: str, rounding: str) -> None:
    """Raise ValueError unless ``rounding`` is one of the three words."""
    if rounding not in get_args(Rounding):
        raise ValueError(
            f"{name} needs levels to be one of {', '.join(get_args(Rounding))}, got {rounding!r}."
            + nearest(str(rounding), get_args(Rounding))
        )


def cuts(rounding: Rounding, top: int) -> list[float]:
    """Return the top numbers, in steps, above which the level is 1, 2, ..., top.

    >>> cuts("ceil", 3), cuts("midpoint", 3), cuts("round", 3)
    ([0.0, 1.0, 2.0], [0.0, 1.5, 2.5], [0.5, 1.5, 2.5])
    """
    if rounding == "ceil":
        return [float(level) for level in range(top)]
    first = 0.0 if rounding == "midpoint" else 0.5
    return [first, *(level + 0.5 for level in range(1, top))]


def to_levels(u: Tensor, rounding: Rounding, top: int) -> Tensor:
    """Return the levels 0..top of u, in steps: a new tensor of u's shape and dtype.

    >>> to_levels(torch.tensor([-1.0, 0.0, 1e-9, 0.4, 1.0, 1.6, 9.0]), "ceil", 3)
    tensor([0., 0., 0., 1., 1., 2., 3.])
    """
    if rounding == "ceil":
        # Clamped first, so that no level is -0.
        return torch.sub(u, CEIL_TOLERANCE).clamp_(0, top).ceil_()
    if rounding == "round":
        return torch.clamp(u, 0, top).round_()
    return torch.round(u).clamp_(1, top).mul_(u > 0)
