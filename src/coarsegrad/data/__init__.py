"""Labelled images, one data set a file, and the loader that hands them out in batches.

Torch loads with ``Batches`` and scikit-learn with ``digits()``, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.data.digits import digits
from coarsegrad.data.images import Images, Split, pixels
from coarsegrad.data.mnist import mnist

if TYPE_CHECKING:
    from coarsegrad.data.batches import Batches

__all__ = ["Batches", "Images", "Split", "digits", "mnist", "pixels"]


def __getattr__(name: str) -> Any:
    if name == "Batches":
        from coarsegrad.data.batches import Batches

        return Batches
    raise AttributeError(f"module 'coarsegrad.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
