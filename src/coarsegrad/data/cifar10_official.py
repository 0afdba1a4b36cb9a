"""The two official forms of CIFAR-10, as folders or as .tar.gz: binaries and pickles.

Binary: five ``data_batch_N.bin`` and one ``test_batch.bin``, each of 10,000 records: a label byte,
then 3 x 32 x 32 pixels, planes red, green, blue. Pickles: the same as ``{b"data", b"labels"}``.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coarsegrad.data.archive import damaged, read_archive
from coarsegrad.data.array_pickle import ArrayPickleError, PickledArray, load
from coarsegrad.data.images import Split

Arrays: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

BATCH = 10_000
SHAPE = (3, 32, 32)
_BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
# A whole batch has 31 MB in either form; both archives unpack to less than 200 MB.
_MOST, _TOTAL = 1 << 26, 1 << 28


def read_binaries(place: Path, split: Split) -> Arrays:
    """Return (x uint8 (N, 3, 32, 32), y int64 (N,)) from the official binaries.

    Args:
        place: the folder ``cifar-10-batches-bin``, or the .tar.gz that holds it.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: a batch is missing, has another size, or a label above 9.
    """
    names = [f"{name}.bin" for name in _BATCHES[split]]
    found = _contents(place, "cifar-10-batches-bin", names)
    records = 1 + int(np.prod(SHAPE))
    parts = []
    for name in names:
        content = found[name]
        if len(content) != BATCH * records:
            raise damaged(
                place, f"CIFAR-10 with {BATCH * records:,} bytes in {name}, got {len(content):,}"
            )
        batch = np.frombuffer(content, np.uint8).reshape(BATCH, records)
        _check_labels(place, name, batch[:, 0])
        parts.append((batch[:, 1:], batch[:, 0]))
    return _joined(parts)


def read_pickles(place: Path, split: Split) -> Arrays:
    """Return (x uint8 (N, 3, 32, 32), y int64 (N,)) from the official pickles.

    A pickle can run any program; these are read by a reader that knows bytes, integers, lists,
    dicts and arrays, and nothing else.

    Args:
        place: the folder ``cifar-10-batches-py``, or the .tar.gz that holds it.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: a batch is missing, holds anything else, has another size, or a label that is
            not in 0 .. 9.
    """
    names = list(_BATCHES[split])
    found = _contents(place, "cifar-10-batches-py", names)
    return _joined([_unpickled(place, name, found[name]) for name in names])


def _unpickled(
    place: Path, name: str, content: bytes
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    try:
        batch = load(content)
    except ArrayPickleError as error:
        raise damaged(place, f"CIFAR-10 with a pickle of arrays in {name}, got {error}") from error
    size = BATCH * int(np.prod(SHAPE))
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if not (isinstance(pixels, PickledArray) and isinstance(labels, list)):
        raise damaged(place, f"CIFAR-10 with b'data' and b'labels' in {name}, got others")
    x = pixels.uint8((BATCH, size // BATCH))
    if x is None or len(labels) != BATCH:
        raise damaged(
            place,
            f"CIFAR-10 with uint8 data of shape ({BATCH}, {size // BATCH}) and {BATCH:,} labels "
            f"in {name}, got {pixels} and {len(labels):,} labels",
        )
    if not all(isinstance(label, int) and 0 <= label <= 9 for label in labels):
        raise damaged(place, f"CIFAR-10 with labels 0 .. 9 in {name}, got others")
    return x, np.array(labels, np.uint8)


def _contents(place: Path, folder: str, names: list[str]) -> dict[str, bytes]:
    """Return name -> content of the batches, from a folder or an archive."""
    found: dict[str, bytes] = {}
    if place.is_dir():
        for name in names:
            if (place / name).is_file():
                with (place / name).open("rb") as file:
                    found[name] = file.read(_MOST)
    else:
        wanted = {f"{folder}/{name}": name for name in names}
        for path, content in read_archive(place, most=_MOST, total=_TOTAL):
            if name := wanted.get(path.removeprefix("./"), ""):
                found[name] = content
    if missing := [name for name in names if name not in found]:
        raise damaged(place, f"CIFAR-10 with {', '.join(names)}, missing {', '.join(missing)}")
    return found


def _check_labels(place: Path, name: str, labels: npt.NDArray[np.uint8]) -> None:
    if labels.max() > 9:
        raise damaged(place, f"CIFAR-10 with labels 0 .. 9 in {name}, got {labels.max()}")


def _joined(parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> Arrays:
    x = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, *SHAPE)
    return x, np.concatenate([labels for _, labels in parts]).astype(np.int64)
