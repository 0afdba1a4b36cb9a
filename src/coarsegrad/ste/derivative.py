r"""What a coarse derivative is, and the condition under which it provably trains."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor


class Assumption2(NamedTuple):
    """Whether Assumption 2 holds on [-B, B], with delta = inf g' and delta~ = sup g' on (0, B].

    >>> from coarsegrad.ste import Identity
    >>> Identity().assumption2(1.0)
    Assumption2(holds=False, delta=1.0, delta_tilde=1.0)
    """

    holds: bool
    delta: float
    delta_tilde: float


class CoarseDerivative(ABC):
    """A coarse derivative: ``derivative(x)`` in the backward pass, ``proxy(x)`` its integral.

    Subclasses are final. All maps are elementwise and keep shape, dtype and device. x is measured
    in the quantizer's own unit: a sign's latent weight as it is, a quantized ReLU's input in steps.
    """

    @abstractmethod
    def proxy(self, x: Tensor) -> Tensor:
        """Return g(x)."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """Return g'(x)."""

    @property
    def vanishes_below_zero(self) -> bool:
        """Whether g(x) = 0 for all x <= 0, the first half of Assumption 2."""
        x = torch.tensor([-1e3, -1.0, -1e-3, 0.0], dtype=torch.float64)
        return not bool(self.proxy(x).any())

    def vjp(self, x: Tensor, grad: Tensor) -> Tensor:
        """Return grad * g'(x), in one pass over memory where torch has a kernel for it."""
        return grad * self.derivative(x)

    def for_top(self, top: int) -> Self:
        """Return the same derivative for a quantizer whose highest level is ``top`` = q_b.

        Raises:
            ValueError: it was made for another highest level.
        """
        return self

    @abstractmethod
    def assumption2(self, bound: float) -> Assumption2:
        """Return the constants of Assumption 2 for inputs in [-bound, bound].

        Raises:
            ValueError: ``bound`` is not positive and finite.
        """


def check_bound(bound: float) -> None:
    """Raise ValueError unless ``bound`` is positive and finite."""
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError(
            f"assumption2 needs a finite bound > 0 on |x|, got {bound!r}; "
            "pass the largest |pre-activation| you expect"
        )


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
        return ctx.ste.vjp(x, grad), None, None


def coarse(x: Tensor, forward_map: Callable[[Tensor], Tensor], ste: CoarseDerivative) -> Tensor:
    """Apply ``forward_map`` to ``x`` with the coarse gradient of ``ste``.

    Args:
        x: floating point tensor of any shape.
        forward_map: elementwise, returns a new tensor of x's shape and dtype.
        ste: the coarse derivative used in the backward pass.

    >>> from coarsegrad.ste import ClippedIdentity
    >>> x = torch.tensor([-0.5, 2.0], requires_grad=True)
    >>> coarse(x, torch.sign, ClippedIdentity()).sum().backward()
    >>> x.grad
    tensor([1., 0.])
    """
    y: Tensor = _Coarse.apply(x, forward_map, ste)  # type: ignore[no-untyped-call]
    return y
