r"""Coarse derivatives g'(x): what the backward pass uses where the forward map is flat.

A quantizer q has derivative 0 almost everywhere. Its *coarse gradient* (straight-through
estimator, STE) replaces q'(x) by the derivative g'(x) of a proxy g. Each class here is one
such proxy, chosen independently of the forward map: ``Sign(ste=ClippedIdentity())``.

Assumption 2 (Long, Yin, Xin 2020, arXiv:2011.11256) is the condition under which the coarse
gradient provably trains a two-layer network: g(x) = 0 for x <= 0 and
0 < delta <= g'(x) <= delta~ < inf on (0, B]. ``ReLU`` meets it for every B, ``ClippedReLU`` up
to its ceiling. The two-sided proxies that fit a sign all fail its first half; ``assumption2``
says so, with the constants.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor


class Assumption2(NamedTuple):
    """Whether Assumption 2 holds on [-B, B], with delta = inf g' and delta~ = sup g' on (0, B].

    >>> Identity().assumption2(1.0)
    Assumption2(holds=False, delta=1.0, delta_tilde=1.0)
    """

    holds: bool
    delta: float
    delta_tilde: float


class CoarseDerivative(ABC):
    """A coarse derivative: ``derivative(x)`` in the backward pass, ``proxy(x)`` its integral.

    Subclasses are final. Both methods are elementwise and keep shape, dtype and device.
    """

    @abstractmethod
    def proxy(self, x: Tensor) -> Tensor:
        """Return g(x)."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """Return g'(x)."""

    @abstractmethod
    def assumption2(self, bound: float) -> Assumption2:
        """Return the constants of Assumption 2 for inputs in [-bound, bound].

        Raises:
            ValueError: ``bound`` is not positive and finite.
        """


def _check_bound(bound: float) -> None:
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError(
            f"assumption2 needs a finite bound > 0 on |x|, got {bound!r}; "
            "pass the largest |pre-activation| you expect"
        )


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

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, 1, 1): g is not zero on x < 0."""
        _check_bound(bound)
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

    def assumption2(self, bound: float) -> Assumption2:
        """Return (False, 1 if bound <= 1 else 0, 1)."""
        _check_bound(bound)
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
        _check_bound(bound)
        return Assumption2(False, max(0.0, 2 - 2 * bound), 2.0)


@final
@dataclass(frozen=True)
class ReLU(CoarseDerivative):
    r"""The rectifier: g(x) = max(x, 0), g'(x) = 1{x > 0}.

    The proxy of a quantized ReLU such as ``Heaviside`` (Yin et al. 2019, arXiv:1903.05662;
    Long, Yin, Xin 2020, arXiv:2011.11256). No gradient passes where x <= 0.

    >>> ReLU().derivative(torch.tensor([-1.0, 0.0, 0.5, 3.0]))
    tensor([0., 0., 1., 1.])
    """

    def proxy(self, x: Tensor) -> Tensor:
        """Return max(x, 0)."""
        return x.clamp(min=0)

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 where x > 0, else 0."""
        return (x > 0).to(x.dtype)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (True, 1, 1): it holds for every bound."""
        _check_bound(bound)
        return Assumption2(True, 1.0, 1.0)


@final
@dataclass(frozen=True)
class ClippedReLU(CoarseDerivative):
    r"""The clipped rectifier: g(x) = clamp(x, 0, c), g'(x) = 1{0 < x <= c}.

    Cai et al. 2017 (HWGQ), arXiv:1702.00953, sec. 4.2; Long, Yin, Xin 2020, arXiv:2011.11256.

    Args:
        ceiling: c > 0, from which on g is flat.

    Raises:
        ValueError: ``ceiling`` is not positive and finite.

    >>> ClippedReLU().derivative(torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5]))
    tensor([0., 0., 1., 1., 0.])
    """

    ceiling: float = 1.0

    def __post_init__(self) -> None:
        if not (self.ceiling > 0 and math.isfinite(self.ceiling)):
            raise ValueError(
                f"ClippedReLU needs a finite ceiling > 0, got {self.ceiling!r}; the paper uses 1"
            )

    def proxy(self, x: Tensor) -> Tensor:
        """Return clamp(x, 0, c)."""
        # float16 ends at 65504, and torch refuses to clamp at what a dtype cannot hold.
        return x.clamp(0, min(self.ceiling, torch.finfo(x.dtype).max))

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 where 0 < x <= c, else 0."""
        return ((x > 0) & (x <= self.ceiling)).to(x.dtype)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (bound <= c, 1 if bound <= c else 0, 1)."""
        _check_bound(bound)
        holds = bound <= self.ceiling
        return Assumption2(holds, 1.0 if holds else 0.0, 1.0)


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
        _check_bound(bound)
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
        _check_bound(bound)
        u = min(self.beta * bound, _SWISH_DIP)
        dip = self.beta * (2 - u * math.tanh(u / 2)) / (1 + math.cosh(u))
        return Assumption2(False, dip, self.beta)


class _Coarse(torch.autograd.Function):
    """y = forward_map(x), with dL/dx = dL/dy * g'(x)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward_map: Callable[[Tensor], Tensor], ste: CoarseDerivative
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.ste = ste
        return forward_map(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.ste.derivative(x), None, None


def coarse(x: Tensor, forward_map: Callable[[Tensor], Tensor], ste: CoarseDerivative) -> Tensor:
    """Apply ``forward_map`` to ``x`` with the coarse gradient of ``ste``.

    Args:
        x: floating point tensor of any shape.
        forward_map: elementwise, returns a new tensor of x's shape and dtype.
        ste: the coarse derivative used in the backward pass.

    >>> x = torch.tensor([-0.5, 2.0], requires_grad=True)
    >>> coarse(x, torch.sign, ClippedIdentity()).sum().backward()
    >>> x.grad
    tensor([1., 0.])
    """
    y: Tensor = _Coarse.apply(x, forward_map, ste)  # type: ignore[no-untyped-call]
    return y
