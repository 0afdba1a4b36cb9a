"""Layers of few output channels, counted by tables of their weights: pixels lie in the lanes."""

import numpy as np
import pytest

from .conftest import native
from .test_bit_layer import Case as SignCase
from .test_planes import Case, integers, level

testing = native.testing

BY_TABLES = ("avx2", "avx512bw")

# images, h, w, in, out, kernel, stride, padding, dilation, groups, pad value
SHAPES = [
    (3, 14, 14, 6, 16, (5, 5), (1, 1), (0, 0), (1, 1), 1, 0),  # LeNet-5
    (1, 7, 9, 1, 1, (3, 4), (1, 1), (1, 2), (1, 1), 1, 0),
    (2, 13, 9, 4, 9, (1, 3), (1, 1), (0, 1), (1, 1), 1, 0),
    (1, 9, 40, 8, 8, (3, 1), (1, 1), (2, 0), (1, 1), 1, 0),
    (2, 10, 11, 9, 3, (2, 2), (1, 1), (1, 1), (3, 2), 1, 0),
    (1, 11, 30, 16, 17, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
    (1, 12, 31, 17, 2, (3, 3), (1, 1), (0, 0), (1, 4), 1, 0),
    (1, 6, 30, 33, 15, (3, 3), (1, 1), (2, 2), (1, 1), 1, 0),
    (1, 32, 31, 3, 33, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (2, 3, 161, 5, 7, (2, 3), (1, 1), (1, 1), (1, 1), 1, 0),  # rows of more than a pass
    (1, 2, 700, 2, 5, (2, 2), (1, 1), (0, 0), (1, 1), 1, 0),
    (1, 16, 30, 64, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),  # bytes overflow twice
]


def levels(case, target, bits, **how):
    """What a target finds, and what it ought to."""
    rows, flips = case.thresholds(bits)
    outputs = case.w.shape[0]
    result = case.run(
        target, thresholds=rows.reshape(-1).copy(), flips=flips, out_planes=bits, **how
    )
    packed, intact = result["bits"]
    got = integers((packed[None] if bits == 1 else packed, intact), outputs)
    return got, level(case.sums, rows, flips), result["by_tables"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("planes", "bits"), [(1, 1), (1, 3), (2, 2), (3, 1), (4, 4), (8, 8)])
@pytest.mark.parametrize("ternary", [False, True])
def test_levels_equal_the_naive_ones(target, shape, planes, bits, ternary):
    case = Case(shape, planes, ternary)
    for pieces in (1, 3):
        got, wanted, by_tables = levels(case, target, bits, pieces=pieces)
        np.testing.assert_array_equal(got, wanted)
        most = case.w[0].size * (1 + case.ternary) * (2**planes - 1)
        assert by_tables == (target in BY_TABLES and most < 65535)


@pytest.mark.parametrize("outputs", range(1, 18))
@pytest.mark.parametrize(("planes", "bits"), [(1, 1), (1, 2), (2, 2)])
def test_every_number_of_outputs(target, outputs, planes, bits):
    case = Case((2, 9, 28, 6, outputs, (3, 3), (1, 1), (2, 1), (1, 1), 1, 0), planes, seed=1)
    got, wanted, by_tables = levels(case, target, bits)
    np.testing.assert_array_equal(got, wanted)
    assert by_tables == (target in BY_TABLES)


@pytest.mark.parametrize("channels", [1, 5, 8, 11, 16, 20, 65])
@pytest.mark.parametrize("pad_value", [-1, 1])
def test_signs_padded_with_signs(target, channels, pad_value):
    shape = (2, 9, 30, channels, 6, (3, 3), (1, 1), (1, 1), (1, 1), 1, pad_value)
    case = SignCase(shape)
    thresholds = case.rng.choice(case.sums.reshape(-1, 6)).astype(np.int32)
    flips = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    result = case.run(target, thresholds=thresholds, flips=flips)
    passed = np.where(flips, case.sums <= thresholds, case.sums >= thresholds)
    packed, intact = result["bits"]
    assert intact, "a kernel wrote outside the interior"
    got = np.unpackbits(packed, axis=-1, bitorder="little")
    np.testing.assert_array_equal(got[..., :6], ~passed)
    assert not got[..., 6:].any(), "spare bits must be 0"
    assert result["by_tables"] == (target in BY_TABLES)


@pytest.mark.parametrize(("channels", "cells"), [(32767, 2), (21845, 3)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_counts(target, channels, cells, sign):
    """Limits of 16 bits end at 65,534; a layer that may count 65,535 goes another way."""
    largest = cells * channels
    x = np.ones((1, 1, 159 + cells, channels), np.float32)
    w = np.full((2, channels, 1, cells), sign, np.float32)
    w[1, 0] = -sign
    sums = np.array([sign * largest, sign * (largest - 2 * cells)])
    for more in (0, 1):
        thresholds = (sums + more).astype(np.int32)
        result = testing.bit_layer(target, x, w, low=0, thresholds=thresholds)
        assert (result["bits"][0] == 3 * more).all()
        assert result["by_tables"] == (target in BY_TABLES and largest == 65534)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 10, 30, 6, 4, (3, 3), (2, 1), (1, 1), (1, 1), 1, 0),
        (1, 10, 30, 6, 4, (3, 3), (1, 2), (1, 1), (1, 1), 1, 0),
        (1, 40, 30, 6, 4, (3, 3), (1, 1), (0, 0), (19, 1), 1, 0),  # hardly a row between is used
        (1, 10, 30, 16, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2, 0),
        (1, 10, 30, 6, 120, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
    ],
    ids=str,
)
def test_other_layers_gather(target, shape):
    got, wanted, by_tables = levels(Case(shape, 2, seed=4), target, 2)
    np.testing.assert_array_equal(got, wanted)
    assert not by_tables


def test_threads_share_no_memory(target):
    case = Case((6, 20, 20, 6, 16, (5, 5), (1, 1), (2, 2), (1, 1), 1, 0), 2, seed=2)
    got, wanted, by_tables = levels(case, target, 2, threads=3)
    np.testing.assert_array_equal(got, wanted)
    assert by_tables == (target in BY_TABLES)
