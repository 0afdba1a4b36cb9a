"""A CIFAR-10 of ten images in every form; the fixture ``_tiny_cifar10`` has it taken for whole."""

from __future__ import annotations

import io

import numpy as np

from coarsegrad.data.cifar10_jpeg import CLASSES
from data.test_array_pickle import python2

BATCH = 2
PER_CLASS = {"train": 2, "test": 1}
_rng = np.random.default_rng(0)
PIXELS = {
    split: _rng.integers(0, 256, (count, 3, 32, 32), np.uint8)
    for split, count in (("train", 5 * BATCH), ("test", BATCH))
}
LABELS = {"train": np.array([9, 0, 3, 3, 7, 1, 5, 2, 8, 4]), "test": np.array([6, 9])}


def _batches(split: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    return [
        (name, PIXELS[split][i * BATCH : (i + 1) * BATCH].reshape(BATCH, -1),
         LABELS[split][i * BATCH : (i + 1) * BATCH])
        for i, name in enumerate(names)
    ]  # fmt: skip


def binaries() -> dict[str, bytes]:
    return {
        f"cifar-10-batches-bin/{name}.bin": b"".join(
            bytes([label]) + image.tobytes() for image, label in zip(x, y, strict=True)
        )
        for split in ("train", "test")
        for name, x, y in _batches(split)
    } | {"cifar-10-batches-bin/readme.html": b"read me"}


def pickles() -> dict[str, bytes]:
    return {
        f"cifar-10-batches-py/{name}": python2(x, y.tolist())
        for split in ("train", "test")
        for name, x, y in _batches(split)
    } | {"cifar-10-batches-py/batches.meta": b"cos\nsystem\n(S'false'\ntR."}


def jpeg(
    shown: tuple[int, int, int] | np.ndarray, size: tuple[int, int] = (32, 32), mode: str = "RGB"
) -> bytes:
    """A picture of one colour, or of an array (H, W, 3)."""
    from PIL import Image

    plain = isinstance(shown, tuple)
    image = Image.new("RGB", size, shown) if plain else Image.fromarray(shown)
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


def colour(split: str, kind: int, number: int) -> tuple[int, int, int]:
    """A colour of its own for every image."""
    return 20 * kind + 30, 100 * number + 50, 200 if split == "train" else 100


def jpegs() -> dict[str, bytes]:
    return {
        f"{split}/{name}/{number:04}.jpg": jpeg(colour(split, kind, number))
        for split, count in PER_CLASS.items()
        for kind, name in enumerate(CLASSES)
        for number in range(count)
    }
