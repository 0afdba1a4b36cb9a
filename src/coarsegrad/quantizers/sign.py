"""The sign, onto {-1, +1}."""

from __future__ import annotations

from typing import final

from torch import Tensor

from coarsegrad.quantizers.scale import Scale, ScaledLevels
from coarsegrad.ste import CoarseDerivative, Identity, coarse


def binary_sign(x: Tensor) -> Tensor:
    """Return -1 where x < 0 and +1 elsewhere: sign(0) = sign(-0.0) = +1.

    >>> import torch
    >>> binary_sign(torch.tensor([-2.0, -0.0, 0.0, 0.1]))
    tensor([-1.,  1.,  1.,  1.])
    """
    return (x < 0).to(x.dtype).mul_(-2).add_(1)


@final
class Sign(ScaledLevels):
    r"""The sign, onto {-1, +1}, with sign(0) = +1, times an optional scale.

    .. math:: q(x) = \alpha\,\mathrm{sign}(x), \qquad \partial q / \partial x = \alpha\, g'(x)

    alpha is 1 (``none``), mean\|x\| over the tensor (``tensor``) or mean\|x\| per slice of
    dimension 0, a weight's output channel (``channel``): the least-squares scale of XNOR-Net
    (Rastegari et al. 2016, arXiv:1603.05279, eq. 6), a constant of the backward pass as in
    Bi-Real Net's magnitude-aware training. Or it is ``learned``, as in XNOR-Net++ (Bulat and
    Tzimiropoulos 2019, arXiv:1909.13863, whose case 1 is one scale per output channel):

    .. math:: \partial L / \partial\alpha = \langle \partial L / \partial q, \mathrm{sign}(x)\rangle

    Args:
        ste: the coarse derivative g'; ``Identity()`` unless given.
        scale: ``none``, ``tensor``, ``channel`` or ``learned``.
        channels: with ``learned``, a scale for each of so many output channels; one unless given.
        initial: with ``learned``, where the scale starts, > 0. It may change its sign later.

    Raises:
        ValueError: an unknown ``scale``, ``channels`` or ``initial`` out of range or without
            ``scale="learned"``.
        TypeError: ``ste`` is not a CoarseDerivative instance, or the input is not floating point.

    >>> import torch
    >>> Sign(scale="channel")(torch.tensor([[-1.0, 3.0], [0.5, 0.0]]))
    tensor([[-2.0000,  2.0000],
            [ 0.2500,  0.2500]])
    """

    levels: tuple[float, ...] = (-1.0, 1.0)
    bits: int = 1

    def __init__(
        self,
        ste: CoarseDerivative | None = None,
        scale: Scale = "none",
        *,
        channels: int | None = None,
        initial: float = 1.0,
    ) -> None:
        super().__init__(Identity() if ste is None else ste, scale, channels, initial)

    def _levels(self, x: Tensor) -> Tensor:
        return coarse(x, binary_sign, self.ste)
