r"""Proxies that fit a quantized ReLU: zero for x <= 0, so Assumption 2 can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from coarsegrad.ste.derivative import Assumption2, CoarseDerivative, check_bound


def where_positive(grad: Tensor, x: Tensor) -> Tensor:
    """Return grad where x > 0, else 0, in one pass."""
    passed: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
    return passed


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

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad where x > 0, else 0."""
        return where_positive(grad, x)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (True, 1, 1): it holds for every bound."""
        check_bound(bound)
        return Assumption2(True, 1.0, 1.0)


@final
@dataclass(frozen=True)
class ClippedReLU(CoarseDerivative):
    r"""The clipped rectifier: g(x) = clamp(x, 0, c), g'(x) = 1{0 < x <= c}.

    Cai et al. 2017 (HWGQ), arXiv:1702.00953, sec. 4.2; Long, Yin, Xin 2020, arXiv:2011.11256, with
    c = 1 in the text. Here c is the quantizer's highest level q_b unless given, so that the
    gradient ends where the levels end.

    Args:
        ceiling: c > 0, from which on g is flat, in steps of the quantizer; None is the highest
            level of the quantizer that it serves, and 1 by itself.

    Raises:
        ValueError: ``ceiling`` is not positive and finite.

    >>> ClippedReLU().derivative(torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5]))
    tensor([0., 0., 1., 1., 0.])
    >>> ClippedReLU().for_top(3)
    ClippedReLU(ceiling=3.0)
    """

    ceiling: float | None = None

    def __post_init__(self) -> None:
        if self.ceiling is not None and not (self.ceiling > 0 and math.isfinite(self.ceiling)):
            raise ValueError(
                f"ClippedReLU needs a finite ceiling > 0, or None for the quantizer's highest "
                f"level, got {self.ceiling!r}; the paper uses 1"
            )

    @property
    def _c(self) -> float:
        return 1.0 if self.ceiling is None else self.ceiling

    def for_top(self, top: int) -> Self:
        """Return the same derivative with the ceiling ``top``, unless it has one."""
        return self if self.ceiling is not None else replace(self, ceiling=float(top))

    def proxy(self, x: Tensor) -> Tensor:
        """Return clamp(x, 0, c)."""
        # float16 ends at 65504, and torch refuses to clamp at what a dtype cannot hold.
        return x.clamp(0, min(self._c, torch.finfo(x.dtype).max))

    def derivative(self, x: Tensor) -> Tensor:
        """Return 1 where 0 < x <= c, else 0."""
        return ((x > 0) & (x <= self._c)).to(x.dtype)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (bound <= c, 1 if bound <= c else 0, 1)."""
        check_bound(bound)
        holds = bound <= self._c
        return Assumption2(holds, 1.0 if holds else 0.0, 1.0)


def _check_top(name: str, q: int | None) -> None:
    if q is not None and (type(q) is not int or not 1 <= q <= 255):
        raise ValueError(
            f"{name} needs q to be the quantizer's highest level 2^bits - 1, an int in 1..255, or "
            f"None to take it from the quantizer, got {q!r}"
        )


def _top(name: str, q: int | None, top: int) -> int:
    """Return ``top``; raise ValueError where ``q`` says otherwise."""
    if q not in (None, top):
        raise ValueError(
            f"{name} has q={q}, but its quantizer's highest level is {top}; leave q out, or use a "
            f"quantizer with 2^bits - 1 = {q}"
        )
    return top


@final
@dataclass(frozen=True)
class ReverseExp(CoarseDerivative):
    r"""Reverse exponential: g(x) = max(0, q_b (1 - e^{-x/q_b})), g'(x) = 1{x > 0} e^{-x/q_b}.

    Long, Yin, Xin 2020, arXiv:2011.11256, sec. 3. It meets Assumption 2 for every finite bound;
    delta = e^{-B/q_b} is small where inputs are many times q_b.

    Args:
        q: q_b, the quantizer's highest level 2^b - 1; None takes it from the quantizer that it
            serves, and is 1 by itself.

    Raises:
        ValueError: ``q`` is no such number, or (in ``for_top``) not the quantizer's.

    >>> ReverseExp(q=3).derivative(torch.tensor([-1.0, 0.0, 3.0]))
    tensor([0.0000, 0.0000, 0.3679])
    """

    q: int | None = None

    def __post_init__(self) -> None:
        _check_top("ReverseExp", self.q)

    def for_top(self, top: int) -> Self:
        """Return the same derivative with q_b = ``top``.

        Raises:
            ValueError: it has another q.
        """
        return replace(self, q=_top("ReverseExp", self.q, top))

    def proxy(self, x: Tensor) -> Tensor:
        """Return max(0, q (1 - e^(-x/q)))."""
        q = self.q or 1
        return -q * torch.expm1(x.clamp(min=0) / -q)

    def derivative(self, x: Tensor) -> Tensor:
        """Return e^(-x/q) where x > 0, else 0."""
        # Clamped first: e^(-x/q) overflows for negative x, and inf * 0 would be NaN.
        return torch.exp(x.clamp(min=0) / -(self.q or 1)) * (x > 0)

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad * e^(-x/q) where x > 0, else 0."""
        slope = x.clamp(min=0).mul_(-1 / (self.q or 1)).exp_().mul_(grad)
        return where_positive(slope, x)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (True, e^(-bound/q), 1); the 1 is not attained."""
        check_bound(bound)
        delta = math.exp(-bound / (self.q or 1))
        return Assumption2(delta > 0, delta, 1.0)


@final
@dataclass(frozen=True)
class LogTailedReLU(CoarseDerivative):
    r"""The rectifier with a logarithmic tail from the highest level on.

    .. math:: g(x) = 0,\ x,\ q_b + \log(x - q_b + 1), \qquad
        g'(x) = 0,\ 1,\ \frac{1}{x - q_b + 1} \qquad
        \text{for } x \leq 0,\ 0 < x \leq q_b,\ x > q_b

    Cai et al. 2017 (HWGQ), arXiv:1702.00953, sec. 4.2; Long, Yin, Xin 2020, arXiv:2011.11256.
    The latter lists it without a condition, but g' falls to 0: like the reverse exponential it
    meets Assumption 2 for finite bounds only.

    Args:
        q: as in ``ReverseExp``.

    Raises:
        ValueError: as in ``ReverseExp``.

    >>> LogTailedReLU(q=3).derivative(torch.tensor([-1.0, 0.0, 3.0, 4.0]))
    tensor([0.0000, 0.0000, 1.0000, 0.5000])
    """

    q: int | None = None

    def __post_init__(self) -> None:
        _check_top("LogTailedReLU", self.q)

    def for_top(self, top: int) -> Self:
        """Return the same derivative with q_b = ``top``.

        Raises:
            ValueError: it has another q.
        """
        return replace(self, q=_top("LogTailedReLU", self.q, top))

    def proxy(self, x: Tensor) -> Tensor:
        """Return 0, x or q + log(x - q + 1)."""
        q = self.q or 1
        return x.clamp(0, q) + torch.log1p((x - q).clamp(min=0))

    def derivative(self, x: Tensor) -> Tensor:
        """Return 0, 1 or 1 / (x - q + 1)."""
        return (x > 0) / ((x - (self.q or 1)).clamp(min=0) + 1)

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad times 0, 1 or 1 / (x - q + 1)."""
        over = (x - ((self.q or 1) - 1)).clamp_(min=1)
        return where_positive(grad / over, x)

    def assumption2(self, bound: float) -> Assumption2:
        """Return (True, 1 / (1 + max(0, bound - q)), 1)."""
        check_bound(bound)
        return Assumption2(True, 1 / (1 + max(0.0, bound - (self.q or 1))), 1.0)
