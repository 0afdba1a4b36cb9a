"""What layers and ``deploy`` ask of a quantizer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from coarsegrad.ste import CoarseDerivative


@runtime_checkable
class Quantizer(Protocol):
    """What a layer and ``deploy`` ask of a quantizer.

    ``levels`` are the values of ``split(x)[0]`` in rising order; ``bits`` is what one costs.

    Three more facts may be stated; a quantizer without them counts as False, False, None:

    - ``weights_only``: it has numbers of its own for each slice of dimension 0, or a threshold
      taken from the whole tensor. That is a weight's output channels, but the batch of an input.
    - ``data_dependent``: its threshold or scale is computed from each tensor that it is given.
    - ``channels``: it has so many learned scales, one per output channel.
    """

    bits: int
    ste: CoarseDerivative

    @property
    def levels(self) -> tuple[float, ...]:
        """The values of ``split(x)[0]``, rising."""

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the levels of x (x's shape and dtype) and the scale, or None for 1."""
