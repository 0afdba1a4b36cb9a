"""The native pass: stub."""

from __future__ import annotations

from torch import Tensor


def fitting(params: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]]) -> list[int]:
    """Return which parameters the native module can step."""
    return []


def bamsprod(batch: object, record: list[Tensor] | None) -> bool:
    """Step."""
    return False


def bound(batch: object, record: list[Tensor] | None) -> bool:
    """Step."""
    return False


def bop(batch: object, record: list[Tensor] | None) -> bool:
    """Step."""
    return False
