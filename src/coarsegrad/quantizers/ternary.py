"""Ternary weights, onto {-1, 0, +1}."""

from __future__ import annotations

import math
from typing import Literal, final

from torch import Tensor

from coarsegrad.quantizers.scale import Scale, ScaledLevels, mean_of_slices, over_slices
from coarsegrad.ste import CoarseDerivative, Identity, coarse

# Li and Liu's Delta over mean|w|: 2/3 is right for uniform weights, 0.75 for normal ones.
_TWN = 0.7


@final
class Ternary(ScaledLevels):
    r"""The ternary step, onto {-1, 0, +1}, times an optional scale.

    .. math:: q(x) = \alpha\,\mathrm{sign}(x)\,1\{|x| > \Delta\}, \qquad
        \partial q / \partial x = \alpha\, g'(x)

    Ternary Weight Networks (Li and Liu 2016, arXiv:1605.04711): Delta = 0.7 mean\|x\|, and alpha
    = mean\|x\| where \|x\| > Delta, both found per output channel (slice of dimension 0) if the
    scale is one per output channel, else over the tensor. Both are constants of the backward
    pass. Where nothing passes Delta, all levels are 0 and alpha is 1.

    Chiefly for weights. On the input of a layer, ``threshold`` has to be a number: taken from a
    batch, it would make one sample's result depend on the others.

    Args:
        ste: the coarse derivative g'; ``Identity()`` unless given.
        threshold: ``"twn"``, or a fixed Delta >= 0.
        scale: ``none``, ``tensor``, ``channel`` or ``learned``, as in ``Sign``; the paper's is
            ``tensor`` or ``channel``.
        channels: with ``learned``, as in ``Sign``.
        initial: with ``learned``, as in ``Sign``.

    Raises:
        ValueError: as in ``Sign``, or ``threshold`` is neither.
        TypeError: as in ``Sign``.

    >>> import torch
    >>> Ternary(scale="tensor")(torch.tensor([-2.0, 0.5, -0.1, 1.4]))
    tensor([-1.7000,  0.0000,  0.0000,  1.7000])
    """

    levels: tuple[float, ...] = (-1.0, 0.0, 1.0)
    bits: int = 2

    def __init__(
        self,
        ste: CoarseDerivative | None = None,
        threshold: Literal["twn"] | float = "twn",
        scale: Scale = "none",
        *,
        channels: int | None = None,
        initial: float = 1.0,
    ) -> None:
        super().__init__(Identity() if ste is None else ste, scale, channels, initial)
        is_number = isinstance(threshold, (int, float)) and 0 <= threshold < math.inf
        if threshold != "twn" and not is_number:
            raise ValueError(
                f"Ternary needs threshold to be 'twn' or a finite number >= 0, got {threshold!r}; "
                "'twn' is 0.7 mean|x|"
            )
        self.threshold: Literal["twn"] | float = threshold

    @property
    def weights_only(self) -> bool:
        """Whether it is made for weights and refused on the input of a layer."""
        return self.per_channel or self.threshold == "twn"

    @property
    def data_dependent(self) -> bool:
        """Whether its numbers are computed from each tensor it is given."""
        return self.scale in ("tensor", "channel") or self.threshold == "twn"

    def _levels(self, x: Tensor) -> Tensor:
        delta = self._delta(x.detach())

        def ternary_step(x: Tensor) -> Tensor:
            return (x > delta).to(x.dtype).sub_((x < -delta).to(x.dtype))

        return coarse(x, ternary_step, self.ste)

    def _delta(self, x: Tensor) -> Tensor | float:
        if isinstance(self.threshold, str):
            return over_slices(_TWN * mean_of_slices(x.abs(), self.per_channel), x)
        return self.threshold

    def extra_repr(self) -> str:
        """Return the arguments, as in the constructor."""
        return f"{super().extra_repr()}, threshold={self.threshold!r}"
