"""Forward maps onto few levels; each takes its coarse derivative as an argument.

A quantizer is a ``torch.nn.Module`` that states its own facts (``levels``, ``bits``, ``ste``)
and gives ``split(x) -> (signs, scale)``, so that a layer can convolve integers and multiply
its output by the scale, and so that ``deploy`` can choose a packing without knowing classes.
"""

from __future__ import annotations

from typing import Literal, Protocol, final, get_args, runtime_checkable

import torch
from torch import Tensor

from coarsegrad.errors import nearest
from coarsegrad.ste import CoarseDerivative, Identity, coarse

Scale = Literal["none", "tensor", "channel"]


@runtime_checkable
class Quantizer(Protocol):
    """What a layer and ``deploy`` ask of a quantizer.

    ``levels`` are the values of ``split(x)[0]`` in rising order; ``bits`` is what one costs.
    """

    levels: tuple[float, ...]
    bits: int
    ste: CoarseDerivative

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the levels of x (x's shape and dtype) and the scale, or None for 1."""


def binary_sign(x: Tensor) -> Tensor:
    """Return -1 where x < 0 and +1 elsewhere: sign(0) = sign(-0.0) = +1.

    >>> binary_sign(torch.tensor([-2.0, -0.0, 0.0, 0.1]))
    tensor([-1.,  1.,  1.,  1.])
    """
    return (x < 0).to(x.dtype).mul_(-2).add_(1)


@final
class Sign(torch.nn.Module):
    r"""The sign, onto {-1, +1}, with sign(0) = +1, times an optional scale.

    .. math:: q(x) = \alpha\,\mathrm{sign}(x), \qquad \partial q / \partial x = \alpha\, g'(x)

    alpha is 1 (``none``), mean\|x\| over the tensor (``tensor``) or mean\|x\| per slice of
    dimension 0, a weight's output channel (``channel``): the least-squares scale of XNOR-Net
    (Rastegari et al. 2016, arXiv:1603.05279, eq. 6). alpha is a constant of the backward pass,
    as in Bi-Real Net's magnitude-aware training.

    Args:
        ste: the coarse derivative g'.
        scale: ``none``, ``tensor`` or ``channel``.

    Raises:
        ValueError: an unknown ``scale``.
        TypeError: ``ste`` is not a CoarseDerivative instance, or the input is not floating point.

    >>> Sign(scale="channel")(torch.tensor([[-1.0, 3.0], [0.5, 0.0]]))
    tensor([[-2.0000,  2.0000],
            [ 0.2500,  0.2500]])
    """

    levels: tuple[float, ...] = (-1.0, 1.0)
    bits: int = 1

    def __init__(self, ste: CoarseDerivative | None = None, scale: Scale = "none") -> None:
        super().__init__()
        ste = Identity() if ste is None else ste
        if not isinstance(ste, CoarseDerivative):
            raise TypeError(
                f"Sign needs ste to be an instance from coarsegrad.ste, got {ste!r}; "
                "for example Sign(ste=ClippedIdentity())"
            )
        if scale not in get_args(Scale):
            raise ValueError(
                f"Sign needs scale to be one of {', '.join(get_args(Scale))}, got {scale!r}."
                + nearest(str(scale), get_args(Scale))
            )
        self.ste = ste
        self.scale: Scale = scale

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (signs, scale): signs in x's shape, scale 0-d, (dim 0,) or None for 1."""
        if not x.is_floating_point():
            raise TypeError(
                f"Sign needs a floating point tensor, got {x.dtype}; convert it with x.float()"
            )
        signs = coarse(x, binary_sign, self.ste)
        if self.scale == "none":
            return signs, None
        magnitude = x.detach().abs()
        if self.scale == "tensor":
            return signs, magnitude.mean()
        return signs, magnitude.flatten(1).mean(1) if x.dim() > 1 else magnitude

    def forward(self, x: Tensor) -> Tensor:
        """Return signs * scale, in x's shape and dtype."""
        signs, scale = self.split(x)
        if scale is None:
            return signs
        return signs * scale.reshape(scale.shape + (1,) * (x.dim() - scale.dim()))

    def extra_repr(self) -> str:
        """Return the arguments, as in the constructor."""
        return f"ste={self.ste!r}, scale={self.scale!r}"


__all__ = ["Quantizer", "Scale", "Sign", "binary_sign"]
