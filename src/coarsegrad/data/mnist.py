"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 (LeCun, Cortes, Burges)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from coarsegrad.data.download import fetch
from coarsegrad.data.idx import read_idx
from coarsegrad.data.images import Images, Split, check_split
from coarsegrad.data.root import data_root
from coarsegrad.errors import DataError, MissingDataError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


class _File(NamedTuple):
    name: str
    md5: str
    size: int
    shape: tuple[int, ...]


FILES = {
    "train": (
        _File(
            "train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            9_912_422,
            (60_000, 28, 28),
        ),
        _File("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 28_881, (60_000,)),
    ),
    "test": (
        _File(
            "t10k-images-idx3-ubyte.gz",
            "9fb629c4189551a2d022fa330f9573f3",
            1_648_877,
            (10_000, 28, 28),
        ),
        _File("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 4_542, (10_000,)),
    ),
}


def mnist(
    split: Split, *, root: str | os.PathLike[str] | None = None, download: bool = True
) -> Images:
    """Return MNIST: x uint8 (N, 1, 28, 28), y int64 (N,), N = 60,000 for train, 10,000 for test.

    The original .gz files are read from ``mnist/`` inside the root folder. Those that are missing
    are downloaded to it and compared with the published checksum; those that are there are
    checked by structure only (sizes, gzip's own checksum, labels 0 .. 9).

    Args:
        split: ``"train"`` or ``"test"``.
        root: the folder that holds ``mnist/``. Unless given, the environment variable
            COARSEGRAD_DATA, else ``coarsegrad`` in the user's cache folder.
        download: fetch what is missing; if not, what is missing is an error.

    Raises:
        MissingDataError: a file is missing and was not or cannot be fetched.
        DataError: a file is damaged.
        ValueError: ``split`` is unknown.

    >>> mnist("test").x.shape  # doctest: +SKIP
    (10000, 1, 28, 28)
    """
    check_split("mnist", split)
    folder = data_root(root) / "mnist"
    files = FILES[split]
    # All that is missing is told at once, for whoever must fetch it by hand.
    missing = [file for file in files if not (folder / file.name).exists()]
    if missing and not download:
        reason = "download=False was given. Put the original .gz there"
        raise MissingDataError(_missing(folder, missing, reason))
    for done, file in enumerate(missing):
        urls = [mirror + file.name for mirror in MIRRORS]
        try:
            fetch(urls, folder / file.name, file.md5, size=file.size)
        except DataError as error:
            raise MissingDataError(_missing(folder, missing[done:], str(error))) from error
    x, y = (read_idx(folder / file.name, file.shape) for file in files)
    if y.max() > 9:
        raise DataError(
            f"mnist needs labels 0 .. 9, got {y.max()} in {folder / files[1].name}; delete the "
            "file, so that it is fetched again, or replace it by a good copy"
        )
    return Images(x[:, None], y.astype(np.int64), "MNIST", 10)


def _missing(folder: Path, files: Sequence[_File], reason: str) -> str:
    names = " and ".join(file.name for file in files)
    return (
        f"mnist needs {names} in {folder}, found nothing of that name and fetched nothing: "
        f"{reason}, or set COARSEGRAD_DATA (or root=) to a folder whose subfolder mnist/ has it"
    )
