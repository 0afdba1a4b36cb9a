r"""The one-layer, non-overlap network with binarized ReLU: its population loss and gradients.

Dinh and Xin 2020 (Front. Appl. Math. Stat. 6:13), sections 3.1 and 5.1; the formulas that the text
leaves open are derived. Weights are (..., d), leading dimensions are independent networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from coarsegrad.errors import InputError

SLOPE = math.sqrt(2 / math.pi)
"""The slope of the ReLU in (8) with which Lemma 4 is true: E g is the gradient of a parabola."""


def direction(w: Tensor) -> Tensor:
    r"""Return w / \|w\| over the last dimension.

    >>> direction(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    norm: Tensor = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    return w / norm


def angle(w: Tensor, v: Tensor) -> Tensor:
    r"""Return the angle between vectors (..., d), in [0, pi], exact to rounding near 0 and pi.

    .. math:: \theta = 2\, \mathrm{atan2}(|\hat w - \hat v|,\; |\hat w + \hat v|)

    >>> round(float(angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1e-7]))), 12)
    1e-07
    """
    a, b = direction(w), direction(v)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


@final
@dataclass(frozen=True)
class OneLayer:
    r"""The network y(Z, w) = sum over j of sigma(Z_j w), sigma(z) = 1{z > 0}, Z (k, d) Gaussian.

    Args:
        star: w*, unit vectors (..., d), float64.
        k: the number of patches, >= 1.
        slope: c of the coarse gradient (8); the paper's number is not in its text. sqrt(2/pi) is
            what its Lemma 4 needs, and 1 makes the lemma false.

    Raises:
        InputError: ``star`` is not float64 or not of norm 1 to 1e-12, ``k`` < 1, or ``slope`` is
            not positive and finite.

    >>> net = OneLayer(torch.tensor([1.0, 0.0], dtype=torch.float64), k=20)
    >>> w = torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> round(float(net.loss(w)), 4), round(net.strength, 4)
    (5.0, 3.1831)
    """

    star: Tensor
    k: int = 20
    slope: float = SLOPE

    def __post_init__(self) -> None:
        norm = torch.linalg.vector_norm(self.star, dim=-1)
        if self.star.dtype != torch.float64 or not bool(((norm - 1).abs() <= 1e-12).all()):
            raise InputError(
                f"OneLayer needs star of dtype float64 and norm 1, got {self.star.dtype} and "
                f"norms {norm.min():.6g} to {norm.max():.6g}; use direction(star.double())"
            )
        if self.k < 1 or not 0 < self.slope < math.inf:
            raise InputError(
                f"OneLayer needs k >= 1 and a finite slope > 0, got k = {self.k}, "
                f"slope = {self.slope!r}"
            )

    @property
    def strength(self) -> float:
        r"""A = c k / (2 sqrt(2 pi)), the factor of the expected coarse gradient; k / (2 pi)."""
        return self.slope * self.k / (2 * math.sqrt(2 * math.pi))

    def loss(self, w: Tensor) -> Tensor:
        r"""Return the population loss (3), (...), for weights (..., d).

        .. math:: f(w) = \frac{1}{2} \mathrm{E} (1^T\sigma(Zw) - 1^T\sigma(Zw^*))^2
                  = \frac{k}{2\pi}\, \theta(w, w^*)

        The cross terms of the square vanish, since sigma and sigma* have the same mean.
        """
        return self.k / (2 * math.pi) * angle(w, self.star)

    def gradient(self, w: Tensor) -> Tensor:
        r"""Return the true gradient, (..., d), for 0 < theta < pi (Lemma 2).

        .. math:: \nabla f(w) = -\frac{k}{2\pi |w|} \frac{P w^*}{|P w^*|}, \qquad
                  P = I - \hat w \hat w^T
        """
        unit = direction(w)
        across = self.star - (unit * self.star).sum(-1, keepdim=True) * unit
        scale = self.k / (2 * math.pi) / torch.linalg.vector_norm(w, dim=-1, keepdim=True)
        slope: Tensor = -scale * direction(across)
        return slope

    def coarse_gradient(self, w: Tensor) -> Tensor:
        r"""Return the expected coarse gradient, (..., d), for any w that is not 0 (Lemma 2).

        .. math:: \mathrm{E}\, g(w, Z) = A (\hat w - w^*)

        The lemma's k c / sqrt(2 pi) (w^ - cos(theta/2) b), with b between w^ and w*, is the same.
        """
        return self.strength * (direction(w) - self.star)
