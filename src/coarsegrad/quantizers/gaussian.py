r"""The best steps for normally distributed inputs: what batch norm leaves, and what weights are.

The mean squared error of a quantizer on a cell (a, b] of a normal law has a closed form, from the
moments of the truncated normal law:

.. math:: \int_a^b (x - l)^2 \varphi(x)\,dx =
    (1 + l^2)(\Phi(b) - \Phi(a)) - (b\varphi(b) - a\varphi(a)) + 2l(\varphi(b) - \varphi(a))

The step is its minimum in one dimension. Assigning inputs to levels and fitting the step in turn,
as is often done, does not get there for ``ceil``, whose levels are not the nearest ones.
"""

from __future__ import annotations

import math
from functools import lru_cache

from coarsegrad.quantizers.minimum import minimum
from coarsegrad.quantizers.rounding import Rounding, cuts


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _cell(a: float, b: float, level: float) -> float:
    """Return the squared error of ``level`` on (a, b], 0 <= a, for a standard normal input."""
    # erfc keeps the tails: the difference of two numbers near 1 would not.
    mass = (math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2))) / 2
    end = 0.0 if math.isinf(b) else b * _density(b)
    return (
        (1 + level * level) * mass
        - (end - a * _density(a))
        + 2 * level * (_density(b) - _density(a))
    )


def half_gaussian_error(step: float, bits: int, rounding: Rounding) -> float:
    """Return E[(x - q(x))^2 | x > 0] of a quantized ReLU for a standard normal x.

    >>> round(half_gaussian_error(0.5388119, 2, "midpoint"), 4)
    0.0864
    """
    top = 2**bits - 1
    ends = [0.0, *(step * cut for cut in cuts(rounding, top)), math.inf]
    return 2 * sum(_cell(ends[level], ends[level + 1], level * step) for level in range(top + 1))


@lru_cache
def half_gaussian_step(bits: int, rounding: Rounding = "ceil") -> float:
    """Return the step of least squared error for the positive half of a standard normal input.

    The input that batch norm without affine leaves is such a one. 1 to 4 bits: 0.797885, 0.486570,
    0.289310, 0.166641 for ``ceil``; 0.797885, 0.538812, 0.321729, 0.184243 for ``midpoint`` (HWGQ,
    Cai et al. 2017, arXiv:1702.00953); 1.224006, 0.650770, 0.353411, 0.193249 for ``round``.

    >>> round(half_gaussian_step(2), 6)
    0.48657
    """
    return minimum(lambda step: half_gaussian_error(step, bits, rounding), 1e-3, 3.0)


@lru_cache
def gaussian_step(bits: int) -> float:
    """Return the step of least squared error of levels -M..M, M = 2^(bits-1) - 1, for N(0, 1).

    Inputs go to the nearest level. One bit has the levels -1 and +1, and the step E|x|.

    >>> round(gaussian_step(1), 6), round(gaussian_step(2), 6)
    (0.797885, 1.224006)
    """
    if bits == 1:
        return math.sqrt(2 / math.pi)
    top = 2 ** (bits - 1) - 1

    def error(step: float) -> float:
        ends = [0.0, *(step * cut for cut in cuts("round", top)), math.inf]
        return sum(_cell(ends[i], ends[i + 1], i * step) for i in range(top + 1))

    return minimum(error, 1e-3, 3.0)
