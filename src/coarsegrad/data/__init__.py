"""Labelled images, one data set a file, and the loader that hands them out in batches.

Torch loads with ``Batches`` and ``crop_flip``, scikit-learn with ``digits()``, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.data.cifar10 import cifar10
from coarsegrad.data.digits import digits
from coarsegrad.data.images import Images, Split, pixels
from coarsegrad.data.mnist import mnist

if TYPE_CHECKING:
    from coarsegrad.data.augment import crop_flip
    from coarsegrad.data.batches import Batches

__all__ = ["Batches", "Images", "Split", "cifar10", "crop_flip", "digits", "mnist", "pixels"]


def __getattr__(name: str) -> Any:
    if name == "Batches":
        from coarsegrad.data.batches import Batches

        return Batches
    if name == "crop_flip":
        from coarsegrad.data.augment import crop_flip

        return crop_flip
    raise AttributeError(f"module 'coarsegrad.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
