"""The arithmetic of the optimizers, once for three ways to run it.

A rule is written against ``Ops``. On the ``SINGLE`` path an operand is one tensor and a number is
a float; on the ``FOREACH`` path both are lists, one entry a tensor; on the ``TRACED`` path numbers
may be 0-d tensors, so that a compiler or a CUDA graph sees no Python number change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ops:
    """In-place tensor operations, on one tensor or on a list of tensors.

    Attributes:
        name: ``"single"``, ``"foreach"`` or ``"traced"``.
        each: map a function over the entries: once for one tensor, or entry by entry for lists.
        lerp_: a += weight (b - a).
        mul_: a *= number.
        add_: a += b, a number or a tensor.
        times: a b, a new tensor.
        addcmul_: a += number b c.
        addcdiv_: a += number b / c.
        maximum_: a = max(a, b), NaN if either is.
        sqrt: a new tensor, or the second argument overwritten.
        clamp: min(max(a, low), high), NaN kept, a new tensor, or the last argument overwritten; the
            limits are numbers, or tensors that broadcast.
        clamp_: the same in place.
    """

    name: str
    each: Callable[..., Any]
    lerp_: Callable[[Any, Any, Any], Any]
    mul_: Callable[[Any, Any], Any]
    add_: Callable[[Any, Any], Any]
    times: Callable[[Any, Any], Any]
    addcmul_: Callable[[Any, Any, Any, Any], Any]
    addcdiv_: Callable[[Any, Any, Any, Any], Any]
    maximum_: Callable[[Any, Any], Any]
    sqrt: Callable[[Any, Any], Any]
    clamp: Callable[[Any, Any, Any, Any], Any]
    clamp_: Callable[[Any, Any, Any], Any]

    def rows(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Call ``function(ops, *entries)`` for every tensor, or once for the whole lists.

        Returns:
            One result a tensor.
        """
        if self.name == "foreach":
            return list(function(self, *columns) or ())
        return [function(self, *row) for row in zip(*columns, strict=True)]


def _once(function: Callable[..., Any], *operands: Any) -> Any:
    return function(*operands)


def _entrywise(function: Callable[..., Any], *operands: Any) -> list[Any]:
    return [function(*row) for row in zip(*operands, strict=True)]


def _foreach_clamp(a: list[Tensor], low: Any, high: Any, _: Any) -> list[Tensor]:
    clamped = list(torch._foreach_clamp_min(a, low))
    torch._foreach_clamp_max_(clamped, high)
    return clamped


def _foreach_clamp_(a: list[Tensor], low: Any, high: Any) -> None:
    torch._foreach_clamp_min_(a, low)
    torch._foreach_clamp_max_(a, high)


def _clamp(a: Tensor, low: Any, high: Any, room: Tensor | None) -> Tensor:
    if isinstance(low, Tensor):
        low, high = low.to(a.dtype), high.to(a.dtype)
    return torch.clamp(a, low, high, out=room)


def _clamp_(a: Tensor, low: Any, high: Any) -> Tensor:
    if isinstance(low, Tensor):
        low, high = low.to(a.dtype), high.to(a.dtype)
    return a.clamp_(low, high)


def _traced_lerp_(a: Tensor, b: Tensor, weight: Any) -> Tensor:
    return a.lerp_(b, weight.to(a.dtype) if isinstance(weight, Tensor) else weight)


SINGLE = Ops(
    name="single",
    each=_once,
    lerp_=Tensor.lerp_,
    mul_=Tensor.mul_,
    add_=Tensor.add_,
    times=torch.mul,
    addcmul_=lambda a, b, c, number: a.addcmul_(b, c, value=number),
    addcdiv_=lambda a, b, c, number: a.addcdiv_(b, c, value=number),
    maximum_=lambda a, b: torch.maximum(a, b, out=a),
    sqrt=lambda a, room: torch.sqrt(a, out=room),
    clamp=_clamp,
    clamp_=_clamp_,
)

FOREACH = Ops(
    name="foreach",
    each=_entrywise,
    lerp_=torch._foreach_lerp_,
    mul_=torch._foreach_mul_,
    add_=torch._foreach_add_,
    times=torch._foreach_mul,
    addcmul_=torch._foreach_addcmul_,
    addcdiv_=torch._foreach_addcdiv_,
    maximum_=torch._foreach_maximum_,
    sqrt=lambda a, _: torch._foreach_sqrt(a),
    clamp=_foreach_clamp,
    clamp_=_foreach_clamp_,
)

TRACED = Ops(
    name="traced",
    each=_once,
    lerp_=_traced_lerp_,
    mul_=Tensor.mul_,
    add_=Tensor.add_,
    times=torch.mul,
    # In the order of ATen's addcmul and addcdiv: they overflow for the same operands.
    addcmul_=lambda a, b, c, number: a.add_(b * number * c),
    addcdiv_=lambda a, b, c, number: a.add_(b * number / c),
    maximum_=lambda a, b: a.copy_(torch.maximum(a, b)),
    sqrt=lambda a, _: a.sqrt(),
    clamp=lambda a, low, high, _: _clamp(a, low, high, None),
    clamp_=_clamp_,
)
