"""Weights of several bits as planes of digits: sums, levels and floats against naive arithmetic."""

import numpy as np
import pytest

from .conftest import convolve, native
from .test_bit_layer import SHAPES
from .test_planes import cells, integers, level

testing = native.testing


class Case:
    """A layer of a shape of test_bit_layer on integers and weights of several bits."""

    def __init__(self, shape, planes, bits, odd=False, seed=0):
        n, h, w, c, o, kernel, stride, padding, dilation, groups, _ = shape
        self.rng = np.random.default_rng(seed)
        self.x = cells(self.rng, planes, n, h, w, c)
        top = 2**bits - 1 if odd else 2 ** (bits - 1) - 1
        numbers = np.arange(-top, top + 1, 2 if odd else 1)
        self.w = self.rng.choice(numbers, (o, c // groups, *kernel)).astype(np.float32)
        self.w[0], self.w[-1] = top, -top
        self.geometry = {"stride": stride, "padding": padding, "dilation": dilation,
                         "groups": groups}  # fmt: skip
        self.planes, self.bits, self.odd = planes, bits, odd
        self.sums = convolve(
            self.x.astype(np.float64), self.w.astype(np.float64), **self.geometry
        ).astype(np.int64)

    def run(self, target, **finish):
        x = self.x if self.planes > 1 else 2 * self.x - 1  # one plane is given as signs
        return testing.bit_layer(
            target, x, self.w, low=0, planes=self.planes, weight_planes=self.bits,
            odd_weights=self.odd, **self.geometry, **finish,
        )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("planes", "bits", "odd"),
    [(1, 2, False), (1, 3, True), (2, 2, True), (2, 3, False), (4, 4, False), (3, 8, True)],
)
def test_sums_equal_the_naive_product(target, shape, planes, bits, odd):
    case = Case(shape, planes, bits, odd)
    np.testing.assert_array_equal(case.run(target, pieces=2)["sums"], case.sums)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("planes", "bits", "out"), [(1, 2, 1), (2, 3, 2), (4, 4, 4)])
def test_levels_with_flips(target, shape, planes, bits, out):
    case = Case(shape, planes, bits, seed=1)
    outputs = case.w.shape[0]
    flips = (case.rng.random(outputs) < 0.4).astype(np.uint8)
    rows = case.rng.choice(case.sums.reshape(-1, outputs), 2**out - 1).astype(np.int32)
    rows.sort(axis=0)
    rows = np.where(flips, rows[::-1], rows)
    result = case.run(
        target, thresholds=rows.reshape(-1).copy(), flips=flips, out_planes=out, pieces=3
    )
    packed, intact = result["bits"]
    got = integers((packed[None] if out == 1 else packed, intact), outputs)
    np.testing.assert_array_equal(got, level(case.sums, rows, flips))
    assert not result["by_tables"]


@pytest.mark.parametrize("shape", SHAPES[:10], ids=str)
def test_affine(target, shape):
    case = Case(shape, 2, 4, seed=2)
    scale, shift = case.rng.standard_normal((2, case.w.shape[0])).astype(np.float32)
    got = case.run(target, scale=scale, shift=shift)["values"]
    np.testing.assert_array_equal(got, scale * case.sums.astype(np.float32) + shift)


@pytest.mark.parametrize(
    ("channels", "planes", "bits"), [(8191, 1, 3), (8192, 1, 3), (273, 4, 4), (274, 4, 4)]
)
def test_the_largest_counts(target, channels, planes, bits):
    """The least weight of two's complement counts 65,536 = 8,192 * 8, which takes 32 bits."""
    x = np.full((2, 1, 3, channels), 2**planes - 1, np.float32)
    for weight in (-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1):
        w = np.full((5, channels, 1, 1), weight, np.float32)
        given = x if planes > 1 else 2 * x - 1
        got = testing.bit_layer(target, given, w, low=0, planes=planes, weight_planes=bits)
        wanted = np.full((2, 1, 3, 5), weight * x[0, 0, 0].sum())
        np.testing.assert_array_equal(got["sums"], wanted)


def test_refusals(target):
    x, w = np.ones((1, 2, 2, 8), np.float32), np.ones((3, 8, 1, 1), np.float32)
    for wrong in ({"low": -1}, {"pad_value": 1}, {"weight_planes": 9}, {"weight_planes": 0}):
        with pytest.raises(ValueError, match=r"weights (have|of several planes)"):
            testing.bit_layer(target, x, w, **{"low": 0, "weight_planes": 3, **wrong})
