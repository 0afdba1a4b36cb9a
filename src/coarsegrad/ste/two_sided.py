r"""Proxies that fit a sign: they rise on both sides of 0, so all fail Assumption 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from coarsegrad.ste.derivative import Assumption2, CoarseDerivative, check_bound


@final
@dataclass(frozen=True)
class Identity(CoarseDerivative):
    r"""The identity: g(x) = x, g'(x) = 1 (Hinton 2012; Bengio et al. 2013, arXiv:1308.3432).

    The right choice for latent weights that the optimizer keeps in a box.

    >>> Identity().derivative(torch.tensor([-3.0, 0.5]))
    tensor([1., 1.])
    """

    def proxy(self, x: Tensor) -> Tensor:
        """Return x."""
        return x

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(x)

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad."""
        return grad

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, 1, 1): g is not zero on x < 0."""
        check_bound(bound)
        return Assumption2(False, 1.0, 1.0)


@final
@dataclass(frozen=True)
class ClippedIdentity(CoarseDerivative):
    r"""Hard tanh: g(x) = clamp(x, -1, 1), g'(x) = 1{|x| <= 1}.

    Courbariaux et al. 2016, arXiv:1602.02830, eq. (4).

    >>> ClippedIdentity().derivative(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]))
    tensor([0., 1., 1., 1., 0.])
    """

    def proxy(self, x: Tensor) -> Tensor:
        """Return clamp(x, -1, 1)."""
        return x.clamp(-1, 1)

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 where |x| <= 1, else 0."""
        return (x.abs() <= 1).to(x.dtype)

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad where |x| <= 1, else 0."""
        # torch's kernel leaves both ends out: they are moved to the next numbers.
        end = 1 + torch.finfo(x.dtype).eps
        passed: Tensor = torch.ops.aten.hardtanh_backward(grad, x, -end, end)
        return passed

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, 1 if bound <= 1 else 0, 1)."""
        check_bound(bound)
        return Assumption2(False, 1.0 if bound <= 1 else 0.0, 1.0)


@final
@dataclass(frozen=True)
class Triangle(CoarseDerivative):
    r"""Piecewise quadratic sign: g'(x) = max(0, 2 - 2|x|), g(x) = x(2 - |x|) inside [-1, 1].

    Bi-Real Net, Liu et al. 2018, arXiv:1808.00278, eq. (5).

    >>> Triangle().derivative(torch.tensor([-2.0, -0.5, 0.0, 0.25]))
    tensor([0.0000, 1.0000, 2.0000, 1.5000])
    """

    def proxy(self, x: Tensor) -> Tensor:
        """Return x(2 - |x|) inside [-1, 1], sign(x) outside."""
        y = x.clamp(-1, 1)
        return y * (2 - y.abs())

    def derivative(self, x: Tensor) -> Tensor:
        """Return max(0, 2 - 2|x|)."""
        return (2 - 2 * x.abs()).clamp(min=0)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, max(0, 2 - 2 bound), 2); the supremum 2 is not attained."""
        check_bound(bound)
        return Assumption2(False, max(0.0, 2 - 2 * bound), 2.0)


@final
@dataclass(frozen=True)
class Sigmoid(CoarseDerivative):
    r"""The logistic function: g(x) = s(x) = 1 / (1 + e^-x), g'(x) = s(x)(1 - s(x)).

    The proxy of a binary unit in Bengio et al. 2013, arXiv:1308.3432. Its derivative is at most
    1/4, so that gradients shrink from layer to layer unless batch norm follows.

    >>> Sigmoid().derivative(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([0.1050, 0.2500, 0.1050])
    """

    def proxy(self, x: Tensor) -> Tensor:
        """Return s(x)."""
        return torch.sigmoid(x)

    def derivative(self, x: Tensor) -> Tensor:
        """Return s(x)(1 - s(x))."""
        # 1 - s(x) = s(-x), written so to keep the tail when s rounds to 1.
        return torch.sigmoid(x) * torch.sigmoid(-x)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, s(bound)(1 - s(bound)), 1/4): g(0) = 1/2; the 1/4 is not attained."""
        check_bound(bound)
        tail = math.exp(-bound)
        return Assumption2(False, tail / (1 + tail) ** 2, 0.25)


# u* minimises h(u) = (2 - u tanh(u/2)) / (1 + cosh u) on u > 0: the dip of SwishSign's derivative.
_SWISH_DIP = 3.435841


@final
@dataclass(frozen=True)
class SwishSign(CoarseDerivative):
    r"""Signed swish: g(x) = 2 s(bx)(1 + bx(1 - s(bx))) - 1, s the logistic function.

    g'(x) = b (2 - bx tanh(bx/2)) / (1 + cosh(bx)), slightly negative for large \|x\|.
    Darabi et al. 2018 (BNN+), arXiv:1812.11800, eq. (8); b = 5 as in the paper.

    Args:
        beta: steepness b > 0, in 1/(unit of x).

    Raises:
        ValueError: ``beta`` is not positive and finite.

    >>> SwishSign().derivative(torch.tensor([0.0]))
    tensor([5.])
    """

    beta: float = 5.0

    def __post_init__(self) -> None:
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(
                f"SwishSign needs a finite beta > 0, got {self.beta!r}; the paper uses 5"
            )

    def proxy(self, x: Tensor) -> Tensor:
        """Return 2 s(bx)(1 + bx(1 - s(bx))) - 1."""
        u = self.beta * x
        s = torch.sigmoid(u)
        # 1 - s(u) = s(-u), written so to keep the tail when s rounds to 1.
        return 2 * s * (1 + u * torch.sigmoid(-u)) - 1

    def derivative(self, x: Tensor) -> Tensor:
        """Return b (2 - bx tanh(bx/2)) / (1 + cosh(bx))."""
        u = self.beta * x
        # 1 / (1 + cosh u) = 2 s(u) s(-u): no overflow of cosh for large |u|.
        slope = torch.sigmoid(u) * torch.sigmoid(-u)
        # The slope has long vanished where u overflows float16; inf * 0 would be NaN.
        u = u.clamp(-1e4, 1e4)
        return self.beta * (2 - u * torch.tanh(u / 2)) * (2 * slope)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, g'(min(bound, dip)), beta); delta < 0 once bound passes 2.4 / beta."""
        check_bound(bound)
        u = min(self.beta * bound, _SWISH_DIP)
        dip = self.beta * (2 - u * math.tanh(u / 2)) / (1 + math.cosh(u))
        return Assumption2(False, dip, self.beta)
