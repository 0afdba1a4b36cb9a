"""Images and pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coarsegrad.data import Images, pixels


def four(**changes: Any) -> Images:
    x = np.arange(4 * 6, dtype=np.uint8).reshape(4, 1, 2, 3)
    return Images(**{"x": x, "y": np.array([2, 0, 1, 2]), "name": "four", "classes": 3, **changes})


def test_length_and_name() -> None:
    assert (len(four()), four().name) == (4, "four")


@pytest.mark.parametrize(
    ("which", "rows"),
    [
        (slice(1, 3), [1, 2]),
        (np.array([3, 0, 0]), [3, 0, 0]),
        (np.array([True, False, False, True]), [0, 3]),
    ],
)
def test_take_keeps_images_and_labels_together(which: Any, rows: list[int]) -> None:
    all_four, some = four(), four().take(which)
    assert (some.x == all_four.x[rows]).all()
    assert (some.y == all_four.y[rows]).all()
    assert (some.name, some.classes) == ("four", 3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x": np.zeros((4, 1, 2, 3), np.float32)}, "x as uint8 .* got float32"),
        ({"x": np.zeros((4, 2, 3), np.uint8)}, r"got uint8 of shape \(4, 2, 3\)"),
        ({"y": np.zeros(4, np.int32)}, r"y as int64 of shape \(4,\).* got int32"),
        ({"y": np.zeros(5, np.int64)}, r"got int64 of shape \(5,\)"),
        ({"classes": 2}, r"labels in 0 .. 1, since classes=2, got labels from 0 to 2"),
        ({"y": np.array([0, 1, -1, 0])}, "got labels from -1 to 1"),
    ],
)
def test_images_refuses_what_is_not_a_labelled_set(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        four(**changes)


def test_pixels_are_exact() -> None:
    k = np.arange(256, dtype=np.uint8)
    got = pixels(k)
    assert got.dtype == np.float32
    assert [float(v) * 128 + 128 for v in got] == list(range(256))
    assert k.dtype == np.uint8
    assert k.tolist() == list(range(256))


def test_pixels_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"needs uint8 pixels 0 \.\. 255, got float64"):
        pixels(np.zeros(3))
