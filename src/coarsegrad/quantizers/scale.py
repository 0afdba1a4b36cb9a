r"""The scale alpha that multiplies a quantizer's levels, and how it is found or learned."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor

from coarsegrad.errors import nearest
from coarsegrad.ste import CoarseDerivative

Scale = Literal["none", "tensor", "channel", "learned"]
"""How a quantizer finds its alpha; ``Sign`` says what each word means."""


class ScaledLevels(torch.nn.Module, ABC):
    r"""Abstract: levels l(x) times an optional scale, q(x) = alpha l(x).

    =========  ===================================================================  =============
    ``scale``  alpha                                                                shape
    =========  ===================================================================  =============
    none       1                                                                    None
    tensor     <l, x> / <l, l>, the least-squares scale: mean\|x\| where l is not 0   0-d
    channel    the same for each slice of dimension 0, a weight's output channel    (dim 0,)
    learned    a parameter, ``alpha``, that starts at ``initial``                   0-d
               with ``channels=n``: one per output channel                          (n,)
    =========  ===================================================================  =============

    The least-squares scales (XNOR-Net, Rastegari et al. 2016, arXiv:1603.05279, eq. 6; Ternary
    Weight Networks, Li and Liu 2016, arXiv:1605.04711) are constants of the backward pass; where
    all levels are 0, alpha is 1. A learned alpha (XNOR-Net++, Bulat and Tzimiropoulos 2019,
    arXiv:1909.13863, case 1 with ``channels``) gets its exact gradient. It is a plain factor: it
    may pass through 0 to negative values, which a packed file holds like any other. A batch norm
    right behind the layer undoes any positive scale: one is worth learning where none follows.

    Subclasses are final; they give ``levels``, ``bits`` and ``_levels``.
    """

    levels: tuple[float, ...]
    bits: int
    alpha: torch.nn.Parameter | None

    def __init__(
        self,
        ste: CoarseDerivative,
        scale: Scale = "none",
        channels: int | None = None,
        initial: float = 1.0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(ste, CoarseDerivative):
            raise TypeError(
                f"{name} needs ste to be an instance from coarsegrad.ste, got {ste!r}; "
                f"for example {name}(ste=ClippedIdentity())"
            )
        _check_scale(name, scale, channels, initial)
        self.ste = ste
        self.scale: Scale = scale
        self.channels = channels
        alpha = None
        if scale == "learned":
            alpha = torch.nn.Parameter(torch.full(() if channels is None else (channels,), initial))
        self.register_parameter("alpha", alpha)

    @property
    def per_channel(self) -> bool:
        """Whether each slice of dimension 0 has a scale of its own."""
        return self.scale == "channel" or (self.scale == "learned" and self.channels is not None)

    @property
    def weights_only(self) -> bool:
        """Whether it is made for weights and refused on the input of a layer."""
        return self.per_channel

    @property
    def data_dependent(self) -> bool:
        """Whether its numbers are computed from each tensor it is given."""
        return self.scale in ("tensor", "channel")

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (levels, scale): levels in x's shape, scale 0-d, (dim 0,) or None for 1.

        Raises:
            TypeError: ``x`` is not floating point.
        """
        if not x.is_floating_point():
            raise TypeError(
                f"{type(self).__name__} needs a floating point tensor, got {x.dtype}; convert it "
                "with x.float()"
            )
        levels = self._levels(x)
        if self.scale == "none":
            return levels, None
        if self.scale == "learned":
            return levels, self.alpha
        return levels, _least_squares(x.detach(), levels.detach(), self.levels, self.per_channel)

    @abstractmethod
    def _levels(self, x: Tensor) -> Tensor:
        """Return l(x), with the coarse gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Return levels * scale, in x's shape and dtype."""
        levels, scale = self.split(x)
        return levels if scale is None else levels * over_slices(scale.to(x.dtype), x)

    def extra_repr(self) -> str:
        """Return the arguments, as in the constructor."""
        text = f"ste={self.ste!r}, scale={self.scale!r}"
        return text if self.channels is None else f"{text}, channels={self.channels}"


def over_slices(numbers: Tensor, x: Tensor) -> Tensor:
    """Return 0-d or (dim 0,) numbers in a shape that broadcasts over the slices of x.

    >>> over_slices(torch.ones(4), torch.zeros(4, 3, 3, 3)).shape
    torch.Size([4, 1, 1, 1])
    """
    return numbers.reshape(numbers.shape + (1,) * (x.dim() - numbers.dim()))


def mean_of_slices(x: Tensor, per_channel: bool) -> Tensor:
    """Return the mean of x, 0-d, or of each slice of dimension 0, shape (dim 0,).

    >>> mean_of_slices(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), True)
    tensor([2., 5.])
    """
    if not per_channel:
        return x.mean()
    return x.flatten(1).mean(1) if x.dim() > 1 else x


def _least_squares(
    x: Tensor, levels: Tensor, possible: tuple[float, ...], per_channel: bool
) -> Tensor:
    """Return argmin_a |x - a levels|^2 for levels of size 0 or 1: mean|x| where they are not 0."""
    magnitude = x.abs()
    if 0.0 not in possible:
        return mean_of_slices(magnitude, per_channel)
    kept = levels != 0
    # Shares of a mean rather than sums, which overflow float16; in float32, as it rounds coarsely.
    wide = torch.promote_types(x.dtype, torch.float32)
    total = mean_of_slices(magnitude.to(wide) * kept, per_channel)
    share = mean_of_slices(kept.to(wide), per_channel)
    # Any scale fits an all-zero slice; 1 lets its latent weights move, 0 would hold them for ever.
    return torch.where(share > 0, total / share, 1.0).to(x.dtype)


def _check_scale(name: str, scale: str, channels: int | None, initial: float) -> None:
    if scale not in get_args(Scale):
        raise ValueError(
            f"{name} needs scale to be one of {', '.join(get_args(Scale))}, got {scale!r}."
            + nearest(str(scale), get_args(Scale))
        )
    if scale != "learned" and (channels is not None or initial != 1):
        raise ValueError(
            f"{name} takes channels and initial only with scale='learned', got scale={scale!r} "
            f"with channels={channels!r}, initial={initial!r}; leave them out, or learn the scale"
        )
    if channels is not None and (type(channels) is not int or channels < 1):
        raise ValueError(
            f"{name} needs channels to be the weight's number of output channels, or None for "
            f"one scale, got {channels!r}"
        )
    if not (initial > 0 and math.isfinite(initial)):
        raise ValueError(
            f"{name} needs a finite initial scale > 0, got {initial!r}; 1 keeps the levels as "
            "they are"
        )
