"""What a data set is here: 8-bit images, their labels, and the name that results carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from coarsegrad.errors import nearest

Split: TypeAlias = Literal["train", "test"]
"""Which part of a data set."""


def check_split(what: str, split: str) -> None:
    """Refuse a split that is neither ``"train"`` nor ``"test"``.

    Args:
        what: the function that was called, for the message.
        split: what the caller gave.

    Raises:
        ValueError: it is neither.

    >>> check_split("mnist", "train")
    """
    allowed = ("train", "test")
    if split not in allowed:
        raise ValueError(
            f"{what} needs split='train' or split='test', got {split!r}."
            f"{nearest(str(split), allowed)}"
        )


# Comparing arrays with == gives an array, so a generated __eq__ could only raise: identity it is.
@dataclass(frozen=True, eq=False)
class Images:
    """A labelled set of images, whole in memory.

    Attributes:
        x: pixels, uint8 of shape (N, channels, height, width), 0 = black, 255 = white.
        y: labels, int64 of shape (N,), each in 0 .. classes - 1.
        name: what a table of results calls this data; it says so when the data stands in for
            another set.
        classes: how many labels there are.

    Raises:
        ValueError: a shape, dtype or label is not as above.

    >>> images = Images(np.zeros((4, 1, 28, 28), np.uint8), np.array([0, 1, 2, 1]), "four", 3)
    >>> len(images), images.take(slice(1, 3)).y
    (4, array([1, 2]))
    """

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int64]
    name: str
    classes: int

    def __post_init__(self) -> None:
        if self.x.dtype != np.uint8 or self.x.ndim != 4:
            raise ValueError(
                "Images needs x as uint8 of shape (N, channels, height, width), "
                f"got {self.x.dtype} of shape {self.x.shape}"
            )
        if self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"Images needs y as int64 of shape ({len(self.x)},), one label an image, "
                f"got {self.y.dtype} of shape {self.y.shape}"
            )
        if ((self.y < 0) | (self.y >= self.classes)).any():
            raise ValueError(
                f"Images needs labels in 0 .. {self.classes - 1}, since classes={self.classes}, "
                f"got labels from {self.y.min()} to {self.y.max()}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def take(self, which: slice | npt.NDArray[Any]) -> Images:
        """Return the images that a slice, an index array or a boolean mask picks.

        A slice shares memory with this set, as in numpy; an array copies.

        >>> digit = Images(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4), "four", 4)
        >>> digit.take(np.array([3, 0])).y
        array([3, 0])
        """
        return replace(self, x=self.x[which], y=self.y[which])


def pixels(x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return (k - 128) / 128 for each pixel k: float32 in [-1, 127/128], same shape.

    Every value is an integer over a power of two, so float32 holds it exactly and a packed file
    computes on the same integers as torch.

    Raises:
        ValueError: ``x`` is not uint8.

    >>> pixels(np.array([0, 128, 255], np.uint8))
    array([-1.       ,  0.       ,  0.9921875], dtype=float32)
    """
    if x.dtype != np.uint8:
        raise ValueError(
            f"pixels needs uint8 pixels 0 .. 255, got {x.dtype}; give the images as they were read"
        )
    return (x.astype(np.float32) - np.float32(128)) / np.float32(128)
