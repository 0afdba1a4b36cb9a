"""DoReFa-Net's weights."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from coarsegrad.quantizers.checks import check_bits, check_floating
from coarsegrad.quantizers.sign import binary_sign
from coarsegrad.ste import CoarseDerivative, Identity, coarse


@final
class DoReFa(torch.nn.Module):
    r"""DoReFa-Net's weights, onto the odd numbers -q_b, ..., -1, 1, ..., q_b times 1 / q_b.

    .. math:: t = \frac{\tanh w}{\max|\tanh w|}, \qquad
        q(w) = \frac{2}{q_b}\,\mathrm{round}(q_b\,\frac{t + 1}{2}) - 1, \qquad
        q_b = 2^{bits} - 1

    Zhou et al. 2016, arXiv:1606.06160, eq. (9). The rounding is passed straight through, the
    gradient of tanh w is exact and the maximum a constant. 0 is no level. One bit is the sign times
    mean|w| over the tensor, their eq. (7), with the gradient of w itself.

    Args:
        bits: 1 to 8.

    Raises:
        ValueError: ``bits`` is no int in 1..8; the input is not floating point (ArgumentError, a
            TypeError too).

    >>> DoReFa(2).split(torch.tensor([-2.0, -0.3, 0.1, 1.0]))
    (tensor([-3., -1.,  1.,  3.]), tensor(0.3333))
    """

    weights_only: bool = True
    data_dependent: bool = True
    channels: None = None

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = check_bits("DoReFa", bits)
        self.ste: CoarseDerivative = Identity()

    @property
    def top(self) -> int:
        """The highest level, q_b = 2^bits - 1."""
        return (1 << self.bits) - 1

    @property
    def levels(self) -> tuple[float, ...]:
        """The odd numbers from -q_b to q_b."""
        return tuple(map(float, range(-self.top, self.top + 1, 2)))

    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return (levels, scale): odd numbers in w's shape and dtype, and 0-d.

        Raises:
            ArgumentError: w is not floating point.
        """
        check_floating("DoReFa", w)
        if self.bits == 1:
            return coarse(w, binary_sign, self.ste), w.detach().abs().mean()
        t = torch.tanh(w)
        largest = t.detach().abs().max()
        # Where all weights are 0, t stays 0.
        t = t / torch.where(largest > 0, largest, torch.ones_like(largest))
        scale = torch.full((), 1 / self.top, dtype=w.dtype, device=w.device)
        return coarse(t * self.top, self._cut, self.ste), scale

    def _cut(self, u: Tensor) -> Tensor:
        return torch.round((u + self.top) / 2).mul_(2).sub_(self.top)

    def forward(self, w: Tensor) -> Tensor:
        """Return levels * scale, in w's shape and dtype."""
        levels, scale = self.split(w)
        return levels * scale

    def extra_repr(self) -> str:
        """Return the arguments, as in the constructor."""
        return f"bits={self.bits}"
