import numpy as np
import pytest

from .conftest import bits_to_signs, convolve, native, signs

testing = native.testing

# n, c, h, w, out, kernel, stride, padding, dilation, groups
SHAPES = [
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 3, 9, 11, 20, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, 3, 17, 16, 64, (7, 7), (2, 2), (3, 3), (1, 1), 1),
    (1, 4, 8, 7, 33, (3, 2), (1, 3), (2, 1), (2, 1), 1),
    (1, 6, 8, 7, 32, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    (1, 4, 6, 5, 10, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    (1, 130, 1, 1, 10, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (3, 130, 1, 1, 50, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (30, 70, 1, 1, 17, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (2, 3, 9, 40, 70, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, 1, 5, 26, 32, (3, 3), (1, 1), (0, 0), (1, 1), 1),
    (1, 2, 4, 61, 33, (2, 4), (3, 2), (0, 2), (1, 1), 1),
    (2, 1, 7, 21, 5, (3, 3), (2, 3), (1, 4), (2, 3), 1),
    (1, 64, 2, 33, 31, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (1, 3, 3, 9, 8, (5, 5), (1, 1), (2, 12), (1, 1), 1),
    (1, 7, 3, 9, 8, (1, 1), (1, 2), (0, 0), (1, 1), 1),
    (2, 2, 3, 48, 21, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (1, 4, 3, 24, 6, (3, 3), (1, 1), (1, 1), (1, 1), 2),
]


def case(shape, one_bit):
    n, c, h, w, o, kernel, stride, padding, dilation, groups = shape
    rng = np.random.default_rng(1)
    # Small integers: every order of summation is exact, so targets must agree with numpy exactly.
    x = rng.integers(-9, 10, (n, c, h, w)).astype(np.float32)
    shape = (o, c // groups, *kernel)
    weights = signs(rng, *shape) if one_bit else rng.integers(-9, 10, shape).astype(np.float32)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    sums = convolve(x.transpose(0, 2, 3, 1), weights, **geometry).astype(np.float32)
    return rng, x, weights, geometry, sums


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("pieces", [1, 5])
def test_affine(target, shape, nchw, pieces):
    rng, x, weights, geometry, sums = case(shape, one_bit=False)
    scale, shift = rng.standard_normal((2, weights.shape[0])).astype(np.float32)
    got = testing.float_layer(
        target, x, weights, scale=scale, shift=shift, nchw=nchw, pieces=pieces, **geometry
    )["values"]
    got = got.transpose(0, 2, 3, 1) if nchw else got
    np.testing.assert_array_equal(got, sums * scale + shift)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("pieces", [1, 3])
def test_one_bit_weights_and_thresholds(target, shape, pieces):
    rng, x, weights, geometry, sums = case(shape, one_bit=True)
    o = weights.shape[0]
    thresholds = np.median(sums.reshape(-1, o), axis=0).astype(np.float32)
    thresholds[::4] = np.inf
    flips = (rng.random(o) < 0.5).astype(np.uint8)
    if geometry["groups"] > 1 and o // geometry["groups"] % 16:
        with pytest.raises(ValueError, match="multiple of 16 output channels per group"):
            testing.float_layer(target, x, weights, thresholds=thresholds, **geometry)
        return
    got = testing.float_layer(
        target, x, weights, thresholds=thresholds, flips=flips, pieces=pieces, **geometry
    )
    want = np.where(flips, sums <= thresholds, sums >= thresholds)
    np.testing.assert_array_equal(bits_to_signs(got["bits"], o), np.where(want, 1.0, -1.0))


@pytest.mark.parametrize("width", [4, 40])
def test_thresholds_of_sums_that_are_not_numbers(target, width):
    x = np.zeros((1, 1, 1, width), np.float32)
    x[0, 0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
    weights = np.array([1, 1, -1, -1, 1], np.float32).reshape(5, 1, 1, 1)
    thresholds = np.array([0, np.inf, np.inf, 0, -np.inf], np.float32)
    flips = np.array([0, 0, 0, 1, 1], np.uint8)
    got = testing.float_layer(target, x, weights, thresholds=thresholds, flips=flips)
    sums = x.reshape(1, 1, width, 1) * weights.reshape(5)
    # A NaN is on neither side and counts as +1.
    minus = np.where(flips, sums > thresholds, sums < thresholds)
    np.testing.assert_array_equal(bits_to_signs(got["bits"], 5), np.where(minus, -1.0, 1.0))


def test_any_weights_with_thresholds(target):
    rng = np.random.default_rng(5)
    x = rng.integers(-9, 10, (1, 1, 6, 20)).astype(np.float32)
    weights = rng.integers(-3, 4, (9, 1, 3, 3)).astype(np.float32)
    sums = convolve(x.transpose(0, 2, 3, 1), weights)
    got = testing.float_layer(target, x, weights, thresholds=np.ones(9, np.float32))
    want = np.where(sums >= 1, 1.0, -1.0)
    np.testing.assert_array_equal(bits_to_signs(got["bits"], 9), want)
