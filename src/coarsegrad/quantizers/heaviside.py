"""The Heaviside step, onto {0, 1}: the ReLU in one bit."""

from __future__ import annotations

from typing import final

from torch import Tensor

from coarsegrad.quantizers.scale import Scale, ScaledLevels
from coarsegrad.ste import CoarseDerivative, ReLU, coarse


def unit_step(x: Tensor) -> Tensor:
    """Return 1 where x > 0 and 0 elsewhere: the step is 0 at 0.

    >>> import torch
    >>> unit_step(torch.tensor([-2.0, 0.0, 0.1]))
    tensor([0., 0., 1.])
    """
    return (x > 0).to(x.dtype)


@final
class Heaviside(ScaledLevels):
    r"""The binarized ReLU, onto {0, 1}, with q(0) = 0, times an optional scale.

    .. math:: q(x) = \alpha\,1\{x > 0\}, \qquad \partial q / \partial x = \alpha\, g'(x)

    The 1-bit case of the quantized ReLU clamp(ceil(x), 0, 2^b - 1) of Long, Yin, Xin 2020,
    arXiv:2011.11256, and the activation of Dinh and Xin 2020 (RVSCGD, Front. Appl. Math. Stat.
    6:13). With ``ReLU()`` or ``ClippedReLU(c)`` Assumption 2 holds, see ``ste``. Chiefly for
    inputs of layers; a positive number of round-off size counts as 1.

    Args:
        ste: the coarse derivative g'; ``ReLU()`` unless given.
        scale: ``none``, ``tensor`` (mean of x where x > 0), ``channel`` (the same per slice of
            dimension 0) or ``learned``, as in ``Sign``.
        channels: with ``learned``, as in ``Sign``.
        initial: with ``learned``, as in ``Sign``.

    Raises:
        ValueError: as in ``Sign``.
        TypeError: as in ``Sign``.

    >>> import torch
    >>> Heaviside()(torch.tensor([-1.0, 0.0, 0.25, 3.0]))
    tensor([0., 0., 1., 1.])
    """

    levels: tuple[float, ...] = (0.0, 1.0)
    bits: int = 1

    def __init__(
        self,
        ste: CoarseDerivative | None = None,
        scale: Scale = "none",
        *,
        channels: int | None = None,
        initial: float = 1.0,
    ) -> None:
        super().__init__(ReLU() if ste is None else ste, scale, channels, initial)

    def _levels(self, x: Tensor) -> Tensor:
        return coarse(x, unit_step, self.ste)
