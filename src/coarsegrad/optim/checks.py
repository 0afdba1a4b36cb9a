"""Checks of hyper-parameters, in torch's wording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from coarsegrad.errors import nearest


def number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    why: str = "",
) -> None:
    """Raise ValueError unless value is a finite number in the interval.

    >>> number("Invalid learning rate", 0.1)
    >>> number("Invalid gamma value", 0.0, open_low=True)
    Traceback (most recent call last):
    ValueError: Invalid gamma value: 0.0 (must be > 0)
    """
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if good:
        good = (value > low if open_low else value >= low) and (
            value < high if open_high else value <= high
        )
    if not good:
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        allowed = f"in {left}{low:g}, {high:g}{right}"
        if math.isinf(high):
            allowed = f"{'>' if open_low else '>='} {low:g}"
        raise ValueError(f"{name}: {value} (must be {allowed}{why})")


def rate(group: dict[str, Any]) -> None:
    """Check ``lr``: a number >= 0, or a tensor of one element where numbers need not be known.

    Raises:
        ValueError: it is not, or it is a tensor and ``foreach`` is on without ``capturable``.
    """
    lr = group["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if group["foreach"] and not group["capturable"]:
            raise ValueError(
                "lr as a Tensor is not supported for capturable=False and foreach=True"
            )
        return
    number("Invalid learning rate", lr)


def betas(group: dict[str, Any]) -> None:
    """Check both betas: in [0, 1)."""
    if len(group["betas"]) != 2:
        raise ValueError(f"Invalid betas: {group['betas']} (must be two numbers)")
    for index, beta in enumerate(group["betas"]):
        number(f"Invalid beta parameter at index {index}", beta, 0, 1, open_high=True)


def choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise ValueError unless value is one of the allowed words.

    >>> choice("space", "w", ("v", "sqrt"))
    Traceback (most recent call last):
    ValueError: Invalid space value: 'w' (must be one of v, sqrt).
    """
    if value not in allowed:
        raise ValueError(
            f"Invalid {name} value: {value!r} (must be one of {', '.join(allowed)})."
            f"{nearest(str(value), allowed)}"
        )


def box(value: Any) -> None:
    """Check a box: None, or (low, high) with low < high."""
    if value is None:
        return
    numbers = len(value) == 2 and not any(math.isnan(x) for x in value)
    if not numbers or not value[0] < value[1]:
        raise ValueError(
            f"Invalid box value: {value} (must be (low, high) with low < high, or None)"
        )


def flags(group: dict[str, Any]) -> None:
    """Check the switches of the paths.

    Raises:
        RuntimeError: two paths at once, as in torch.
    """
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if group["fused"] and group["capturable"]:
        raise RuntimeError("`fused` runs on the CPU and cannot be `capturable`.")
    if group["diagnostics"] and group["capturable"]:
        raise RuntimeError("`diagnostics` reads numbers in each step and cannot be `capturable`.")
