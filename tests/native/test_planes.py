"""Integers of several bits in planes: layers, pools and thresholds against naive arithmetic."""

import numpy as np
import pytest

from .conftest import convolve, native, signs, windows
from .test_bit_layer import SHAPES
from .test_pack_and_pool import SPREAD

testing = native.testing

PLANES = [2, 3, 4, 5, 8]


def integers(result, channels):
    """Integers from (bytes of each plane, intact); checks the spare bits and the surroundings."""
    packed, intact = result
    assert intact, "a kernel wrote outside the interior"
    bits = np.unpackbits(packed, axis=-1, bitorder="little")
    assert not bits[..., channels:].any(), "spare bits must be 0"
    digits = 1 - bits[..., :channels].astype(np.int64)
    return sum(plane << p for p, plane in enumerate(digits[::-1]))


def cells(rng, planes, *shape):
    return rng.integers(0, 2**planes, shape).astype(np.float32)


class Case:
    """A layer of a shape of test_bit_layer on integers, padded with 0, and its naive sums."""

    def __init__(self, shape, planes, ternary=False, seed=0):
        n, h, w, c, o, kernel, stride, padding, dilation, groups, _ = shape
        self.rng = np.random.default_rng(seed)
        self.x = cells(self.rng, planes, n, h, w, c)
        self.w = signs(self.rng, o, c // groups, *kernel)
        self.ternary = ternary
        if ternary:
            self.w *= self.rng.random(self.w.shape) < 0.6
            self.w[0] = 0
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation,
                         "groups": groups}  # fmt: skip
        self.planes = planes
        self.sums = convolve(self.x, self.w, **self.geometry).astype(np.int64)

    def run(self, target, **finish):
        x = self.x if self.planes > 1 else 2 * self.x - 1  # one plane is given as signs
        return testing.bit_layer(
            target, x, self.w, low=0, planes=self.planes, **self.geometry, **finish
        )

    def thresholds(self, bits):
        """Rows in the order that flips ask for: ties with sums, repetitions, unreachable ones."""
        o = self.w.shape[0]
        flips = (self.rng.random(o) < 0.4).astype(np.uint8)
        sums = self.sums.reshape(-1, o)
        rows = self.rng.choice(sums, 2**bits - 1).astype(np.int32)
        rows += self.rng.integers(0, 2, rows.shape).astype(np.int32)
        rows[-1, ::3], rows[0, 1::4] = np.iinfo(np.int32).max, np.iinfo(np.int32).min
        rows.sort(axis=0)
        return np.where(flips, rows[::-1], rows), flips


def level(sums, rows, flips):
    return sum(np.where(flips, sums <= t, sums >= t).astype(np.int64) for t in rows)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("planes", "ternary"), [(2, False), (2, True), (3, False), (4, True), (8, False)]
)
def test_sums_equal_the_naive_product(target, shape, planes, ternary):
    case = Case(shape, planes, ternary)
    np.testing.assert_array_equal(case.run(target, pieces=2)["sums"], case.sums)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("planes", "bits", "ternary"),
    [(1, 2, False), (2, 1, False), (2, 2, True), (3, 2, False), (4, 4, False), (2, 8, True)],
)  # fmt: skip
def test_levels_with_flips(target, shape, planes, bits, ternary):
    case = Case(shape, planes, ternary, seed=1)
    o = case.w.shape[0]
    rows, flips = case.thresholds(bits)
    thresholds = rows.reshape(-1).copy()
    got = case.run(target, thresholds=thresholds, flips=flips, out_planes=bits, pieces=3)["bits"]
    got = (got[0][None], got[1]) if bits == 1 else got
    np.testing.assert_array_equal(integers(got, o), level(case.sums, rows, flips))


@pytest.mark.parametrize("shape", SHAPES[:14], ids=str)
def test_affine(target, shape):
    case = Case(shape, 4, seed=2)
    scale, shift = case.rng.standard_normal((2, case.w.shape[0])).astype(np.float32)
    got = case.run(target, scale=scale, shift=shift)["values"]
    np.testing.assert_array_equal(got, scale * case.sums.astype(np.float32) + shift)


@pytest.mark.parametrize("channels", [1, 6, 8, 9, 16, 17])
@pytest.mark.parametrize("planes", [1, 2, 5])
@pytest.mark.parametrize("kernel", [(1, 2), (5, 5), (3, 7)])
def test_few_channels(target, channels, planes, kernel):
    """Cells of a byte or two, gathered out of words."""
    for dilation in ((1, 1), (1, 2)):
        shape = (2, 9, 14, channels, 20, kernel, (1, 1), (1, 0), dilation, 1, 0)
        case = Case(shape, planes, seed=3)
        np.testing.assert_array_equal(case.run(target)["sums"], case.sums)


def test_the_largest_counts(target):
    """Every bit differs: 16 bits hold 21,845 of two planes, and wider rows go another way."""
    for channels, planes in ((21845, 2), (21846, 2), (4369, 4), (4370, 4), (300, 8)):
        x = np.full((3, 1, 1, channels), 2**planes - 1, np.float32)
        for sign in (-1, 1):
            w = np.full((5, channels, 1, 1), sign, np.float32)
            got = testing.bit_layer(target, x, w, low=0, planes=planes)["sums"]
            np.testing.assert_array_equal(got, np.full((3, 1, 1, 5), sign * x[0].sum()))


def test_refusals(target):
    x, w = np.ones((1, 4, 4, 8), np.float32), np.ones((3, 8, 3, 3), np.float32)
    for keys in ({"low": -1}, {"low": 0, "pad_value": 1}):
        with pytest.raises(ValueError, match="start at 0 and are padded with 0"):
            testing.bit_layer(target, x, w, planes=2, **keys)
    with pytest.raises(ValueError, match="1 to 8 planes"):
        testing.bit_layer(target, x, w, low=0, planes=9)


POOLS = [
    ((2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 2), (1, 3), (1, 0), (2, 1)),
    *SPREAD,
]


@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("channels", [1, 31, 64, 70])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), POOLS)
def test_pool(target, planes, channels, kernel, stride, padding, dilation):
    rng = np.random.default_rng(planes)
    x = cells(rng, planes, 2, 7, 9, channels)
    least = (rng.random(channels) < 0.5).astype(np.uint8)
    args = (x, kernel, stride, padding, dilation)

    def pooled(fill, reduce):
        return reduce(windows(*args, fill), axis=(3, 4))

    largest = pooled(0, np.max)
    want = np.where(least, pooled(2**planes - 1, np.min), largest)
    got = testing.bit_pool(target, *args, all_mask=least, pieces=4, planes=planes)
    np.testing.assert_array_equal(integers(got, channels), want)
    got = testing.bit_pool(target, *args, planes=planes)
    np.testing.assert_array_equal(integers(got, channels), largest)


@pytest.mark.parametrize(
    ("width", "channels", "kernel"), [(700, 33, 3), (9, 5000, 2), (5, 3000, 3)]
)
def test_pool_of_wide_rows_and_of_large_pixels(target, width, channels, kernel):
    rng = np.random.default_rng(0)
    x = cells(rng, 2, 1, 4, width, channels)
    least = (rng.random(channels) < 0.5).astype(np.uint8)
    found = windows(x, (kernel, kernel), (1, 2), (0, 0), (1, 1), 0)
    want = np.where(least, found.min(axis=(3, 4)), found.max(axis=(3, 4)))
    got = testing.bit_pool(target, x, (kernel, kernel), (1, 2), all_mask=least, planes=2)
    np.testing.assert_array_equal(integers(got, channels), want)


@pytest.mark.parametrize("bits", [1, *PLANES])
@pytest.mark.parametrize("channels", [1, 6, 9, 16, 32, 70])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (14, 14)])
def test_levels_of_floats(target, bits, channels, size):
    rng = np.random.default_rng(bits)
    x = rng.integers(-9, 10, (2, channels, *size)).astype(np.float32)
    x.flat[:: x.size // 9 + 1] = np.inf
    x.flat[1 :: x.size // 7 + 1] = -np.inf
    x.flat[2 :: x.size // 5 + 1] = np.nan  # on no side of any threshold
    flips = (rng.random(channels) < 0.4).astype(np.uint8)
    rows = rng.integers(-9, 10, (2**bits - 1, channels)).astype(np.float32)
    rows[0, ::5], rows[-1, 1::5] = -np.inf, np.inf
    rows.sort(axis=0)
    rows = np.where(flips, rows[::-1], rows)
    sums = x.transpose(0, 2, 3, 1)
    for pieces in (1, 3):
        got = testing.pack_levels(
            target, x, rows.reshape(-1).copy(), flips, bits, ring=(2, 1), pieces=pieces
        )
        got = (got[0][None], got[1]) if bits == 1 else got
        np.testing.assert_array_equal(integers(got, channels), level(sums, rows, flips))
