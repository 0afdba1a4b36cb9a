"""CIFAR-10: 50,000 + 10,000 colour images of ten classes, 32x32 (Krizhevsky 2009)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from coarsegrad.data import cifar10_jpeg, cifar10_official
from coarsegrad.data.cifar10_official import Arrays
from coarsegrad.data.download import fetch
from coarsegrad.data.images import Images, Split, check_split
from coarsegrad.data.root import data_root
from coarsegrad.errors import DataError, MissingDataError

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
SIZE = 170_052_171

# In this order: where the set may be, below the root; what reads it; what results call it.
_PLACES: tuple[tuple[str, Callable[[Path, Split], Arrays], str], ...] = (
    ("cifar10/cifar-10-batches-py", cifar10_official.read_pickles, "CIFAR-10"),
    ("cifar10/cifar-10-python.tar.gz", cifar10_official.read_pickles, "CIFAR-10"),
    ("cifar10/cifar-10-batches-bin", cifar10_official.read_binaries, "CIFAR-10"),
    ("cifar10/cifar-10-binary.tar.gz", cifar10_official.read_binaries, "CIFAR-10"),
    ("cifar10-jpeg/cifar10-jpeg.tar.gz", cifar10_jpeg.read_jpegs, "CIFAR-10 (JPEG)"),
)
_FETCHED = "cifar10/cifar-10-binary.tar.gz"


def cifar10(
    split: Split, *, root: str | os.PathLike[str] | None = None, download: bool = True
) -> Images:
    """Return CIFAR-10: x uint8 (N, 3, 32, 32), y int64 (N,), N = 50,000 train, 10,000 test.

    Classes 0 .. 9 are airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck. The
    first of these that the root folder has is read, in the official order of images::

        cifar10/cifar-10-batches-py/       cifar10/cifar-10-python.tar.gz
        cifar10/cifar-10-batches-bin/      cifar10/cifar-10-binary.tar.gz
        cifar10-jpeg/cifar10-jpeg.tar.gz   all images encoded again as JPEG

    The last one is a stand-in whose pixels are not CIFAR-10's: its images are named
    "CIFAR-10 (JPEG)", and accuracies on them do not compare with published ones. It is sorted by
    class, so its images come in a fixed permutation, the same on every machine; its decoded
    pixels are kept in the user's cache folder. If there is none of the five,
    cifar-10-binary.tar.gz is downloaded (162 MiB) and compared with the published checksum; files
    that are there are checked by structure (sizes, gzip's own checksum, labels).

    Args:
        split: ``"train"`` or ``"test"``.
        root: the folder that holds ``cifar10/``. Unless given, the environment variable
            COARSEGRAD_DATA, else ``coarsegrad`` in the user's cache folder.
        download: fetch what is missing; if not, what is missing is an error.

    Raises:
        MissingDataError: the set is missing and was not or cannot be fetched.
        DataError: a file is damaged.
        MissingExtraError: Pillow is not installed, which the JPEGs need.
        ValueError: ``split`` is unknown.

    >>> cifar10("test").x.shape  # doctest: +SKIP
    (10000, 3, 32, 32)
    """
    check_split("cifar10", split)
    folder = data_root(root)
    found = [place for place in _PLACES if (folder / place[0]).exists()]
    if not found:
        _fetch(folder, download)
        found = [place for place in _PLACES if place[0] == _FETCHED]
    path, read, name = found[0]
    x, y = read(folder / path, split)
    return Images(x, y, name, 10)


def _fetch(folder: Path, download: bool) -> None:
    reason = "download=False was given. Put one of the official archives there"
    if download:
        try:
            fetch(URLS, folder / _FETCHED, MD5, size=SIZE)
        except DataError as error:
            reason = str(error)
        else:
            return
    places = ", ".join(place for place, _, _ in _PLACES)
    raise MissingDataError(
        f"cifar10 needs one of {places} in {folder}, found none and fetched nothing: {reason}, or "
        "set COARSEGRAD_DATA (or root=) to a folder that has one"
    )
