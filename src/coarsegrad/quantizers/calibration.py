r"""Steps and levels of a quantized ReLU from a batch of its inputs.

Inputs are sorted once; the squared error of a cell then follows from prefix sums, so that the
search looks at no input twice.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from coarsegrad.quantizers.minimum import minimum
from coarsegrad.quantizers.rounding import Rounding, cuts

# More inputs than this say nothing new about a step; they are thinned out evenly.
_MOST = 1 << 22


@final
class Positives:
    """The positive inputs of a batch, sorted, with sums of x and x^2 of any cell, in float64.

    Args:
        x: floating point tensor of any shape.
        name: who asks, for the message.

    Raises:
        ValueError: fewer than two different positive finite inputs.
    """

    def __init__(self, x: Tensor, name: str) -> None:
        flat = x.detach().flatten().double()
        if not bool(torch.isfinite(flat).all()):
            raise ValueError(f"{name} needs finite inputs to calibrate on, got NaN or infinities")
        flat = flat[flat > 0]
        if len(flat) == 0 or bool(flat.min() == flat.max()):
            found = "none" if len(flat) == 0 else f"{len(flat)} times the same"
            raise ValueError(
                f"{name} needs a batch x with different positive numbers to calibrate on, got "
                f"{found} among {x.numel()}; pass real inputs of this layer"
            )
        self.x = flat[:: -(-len(flat) // _MOST)].sort().values.cpu()
        zero = self.x.new_zeros(1)
        self._sums = torch.cat([zero, self.x.cumsum(0)])
        self._squares = torch.cat([zero, self.x.square().cumsum(0)])

    def cells(self, ends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return counts, sums of x and of x^2 in the cells (0, e_1], (e_1, e_2], ..., (e_k, inf).

        ``ends`` are k rising numbers >= 0; each result has k + 1 entries.
        """
        at = torch.searchsorted(self.x, ends, right=True)
        at = torch.cat([at.new_zeros(1), at, at.new_full((1,), len(self.x))])
        return at.diff(), self._sums[at].diff(), self._squares[at].diff()


def best_step(x: Tensor, bits: int, rounding: Rounding, name: str = "best_step") -> float:
    """Return the step of least squared error E[(x - q(x))^2 | x > 0] over a batch.

    Args:
        x: floating point tensor of any shape.
        bits: 1 to 8.
        rounding: where the quantizer cuts.
        name: who asks, for the message.

    Raises:
        ValueError: as in ``Positives``.

    >>> round(best_step(torch.tensor([0.5, 1.0, 1.5]), 2, "round"), 6)
    0.5
    """
    data = Positives(x, name)
    top = 2**bits - 1
    ends = torch.tensor(cuts(rounding, top), dtype=torch.float64)
    levels = torch.arange(top + 1, dtype=torch.float64)

    def error(step: float) -> float:
        count, total, square = data.cells(ends * step)
        values = levels * step
        return float((square - 2 * values * total + values.square() * count).sum())

    largest = float(data.x[-1])
    return minimum(error, largest / top * 1e-2, 2 * largest)


def lloyd_max(x: Tensor, bits: int, name: str = "lloyd_max") -> tuple[Tensor, Tensor]:
    """Return (levels, cuts) of least squared error over a batch, levels free.

    The level 0 stands for x <= 0 alone; the other 2^bits - 1 levels are the means of their cells,
    and the cuts are 0 and the middles between neighbours (Lloyd 1982, Max 1960).

    Args:
        x: floating point tensor of any shape.
        bits: 1 to 8.
        name: who asks, for the message.

    Returns:
        levels (2^bits,), rising from 0, and cuts (2^bits - 1,): level i above cut i, float64.

    Raises:
        ValueError: as in ``Positives``, or fewer different positive numbers than levels.

    >>> lloyd_max(torch.tensor([1.0, 1.0, 2.0, 5.0]), 2)[0]
    tensor([0., 1., 2., 5.], dtype=torch.float64)
    """
    data, top = Positives(x, name), 2**bits - 1
    found = len(data.x.unique())
    if found < top:
        raise ValueError(
            f"{name} needs at least {top} different positive numbers for {bits} bits, got {found}; "
            "pass a larger batch, or fewer bits"
        )
    levels = _start(data.x, top)
    zero = levels.new_zeros(1)
    while True:
        middles = (levels[1:] + levels[:-1]) / 2
        count, total, _ = data.cells(middles)
        moved = torch.where(count > 0, total / count.clamp(min=1), levels)
        if torch.allclose(moved, levels, rtol=1e-9, atol=0):
            return torch.cat([zero, moved]), torch.cat([zero, (moved[1:] + moved[:-1]) / 2])
        levels = moved


def _start(x: Tensor, top: int) -> Tensor:
    """Return quantiles to start from, or different numbers where quantiles coincide."""
    at = (torch.arange(top, dtype=torch.float64) + 0.5) / top
    levels: Tensor = x[(at * len(x)).long()]
    if bool((levels.diff() > 0).all()):
        return levels
    different = x.unique()
    spread: Tensor = different[(at * len(different)).long()]
    return spread
