"""The bundled digits: real, enlarged the same way everywhere, split the same way forever."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest

from coarsegrad.data import digits
from coarsegrad.data.digits import enlarge
from coarsegrad.errors import MissingExtraError


def test_shapes_counts_and_name() -> None:
    train, test = digits("train"), digits("test")
    assert train.x.shape == (1437, 1, 28, 28)
    assert test.x.shape == (360, 1, 28, 28)
    assert train.name == test.name == "digits (1,797 real 8x8 digits, enlarged)"
    assert train.classes == 10
    counts = np.bincount(train.y) + np.bincount(test.y)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert min(np.bincount(test.y)) > 25


def test_the_two_parts_are_the_whole_set() -> None:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    whole = enlarge(bundled.images.astype(np.uint8))
    wanted = sorted((x.tobytes(), int(y)) for x, y in zip(whole, bundled.target, strict=True))
    got = sorted(
        (x.tobytes(), int(y))
        for part in (digits("train"), digits("test"))
        for x, y in zip(part.x, part.y, strict=True)
    )
    assert got == wanted


def test_results_depend_on_these_very_bytes() -> None:
    digest = hashlib.sha256()
    for part in (digits("train"), digits("test")):
        digest.update(part.x.tobytes())
        digest.update(part.y.astype("<i8").tobytes())
    assert digest.hexdigest() == "12b0da3ec7eeda38acab8276549d9fab2312466b01f1d598d9e7461e0b145e63"


def test_enlarging_agrees_with_plain_interpolation() -> None:
    small = np.random.default_rng(0).integers(0, 17, (5, 8, 8), np.uint8)
    place = ((np.arange(20) + 0.5) * 8 / 20 - 0.5).clip(0, 7)
    rows = np.array([[np.interp(place, range(8), row) for row in image] for image in small])
    both = np.array([[np.interp(place, range(8), col) for col in image.T] for image in rows])
    wanted = both.transpose(0, 2, 1) * 255 / 16
    got = enlarge(small)
    assert abs(got[:, 4:24, 4:24] - wanted).max() <= 0.5 + 1e-9
    border = got.copy()
    border[:, 4:24, 4:24] = 0
    assert border.max() == 0


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="digits needs split='train' or split='test', got 'all'"):
        digits("all")


def test_missing_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'coarsegrad\[train\]'"):
        digits("train")
