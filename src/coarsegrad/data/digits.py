"""Scikit-learn's bundled digits, enlarged to the size of MNIST: real data without a download.

1,797 handwritten digits of 8x8 pixels with 17 grey levels, the test part of the UCI set
"Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998), CC BY 4.0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coarsegrad.data.images import Images, Split, check_split
from coarsegrad.errors import require

_SMALL, _LARGE, _SIZE = 8, 20, 28
_LEVELS = 16
_TRAIN = 1_437


def digits(split: Split) -> Images:
    """Return the digits: x uint8 (N, 1, 28, 28), y int64 (N,), N = 1,437 train, 360 test.

    Each is enlarged to 20x20 and set in a border of 4, as MNIST's digits are. The split is a
    fixed permutation. The same 13 people wrote both parts, so an accuracy on these digits says
    less about new hands than one on MNIST.

    Args:
        split: ``"train"`` or ``"test"``.

    Raises:
        ValueError: ``split`` is unknown.
        MissingExtraError: scikit-learn is not installed.

    >>> images = digits("test")
    >>> images.x.shape, images.name
    ((360, 1, 28, 28), 'digits (1,797 real 8x8 digits, enlarged)')
    """
    check_split("digits", split)
    bundled = require("sklearn.datasets", "train", "digits").load_digits()
    y = bundled.target.astype(np.int64)
    # Raw Philox words: numpy promises their stream, but not that of Generator.permutation.
    order = np.random.Philox(key=_TRAIN).random_raw(len(y)).argsort(kind="stable")
    picked = order[:_TRAIN] if split == "train" else order[_TRAIN:]
    x = enlarge(bundled.images[picked].astype(np.uint8))
    return Images(x[:, None], y[picked], "digits (1,797 real 8x8 digits, enlarged)", 10)


def enlarge(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Enlarge (N, 8, 8) images of values 0 .. 16 to (N, 28, 28) of 0 .. 255.

    Bilinear interpolation between pixel centres to 20x20 (beyond the outermost centres the edge
    is repeated), times 255/16, rounded half up, in a black border of 4. All in integers, so the
    result is the same on every machine.

    >>> large = enlarge(np.full((1, 8, 8), 16, np.uint8))
    >>> large.shape, int(large[0, 4, 4]), int(large[0, 3, 4])
    ((1, 28, 28), 255, 0)
    """
    w = _weights()
    one = _LEVELS * (2 * _LARGE) ** 2  # the weighted sum of a white pixel
    scaled = (w @ small.astype(np.int64) @ w.T * 255 + one // 2) // one
    border = (_SIZE - _LARGE) // 2
    return np.pad(scaled.astype(np.uint8), ((0, 0), (border, border), (border, border)))


def _weights() -> npt.NDArray[np.int64]:
    """Return (20, 8) interpolation weights in units of 1/40: every row sums to 40."""
    unit = 2 * _LARGE
    centre = (2 * np.arange(_LARGE) + 1) * _SMALL - _LARGE  # in small pixels, times the unit
    centre = centre.clip(0, (_SMALL - 1) * unit)
    distance = abs(centre[:, None] - unit * np.arange(_SMALL))
    return (unit - distance).clip(0).astype(np.int64)
