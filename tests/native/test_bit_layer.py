import numpy as np
import pytest

from .conftest import bits_to_signs, convolve, native, signs

testing = native.testing

# images, h, w, in, out, kernel, stride, padding, dilation, groups, pad value
SHAPES = [
    (1, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (2, 5, 7, 3, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
    (1, 9, 6, 31, 33, (3, 3), (2, 2), (1, 1), (1, 1), 1, 1),
    (2, 7, 11, 33, 64, (3, 3), (1, 1), (1, 1), (1, 1), 1, -1),
    (1, 6, 5, 64, 65, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
    (3, 4, 4, 130, 31, (2, 3), (1, 2), (0, 1), (1, 1), 1, 0),
    (1, 11, 13, 17, 96, (3, 3), (3, 2), (2, 2), (2, 2), 1, 0),
    (1, 10, 9, 40, 130, (5, 3), (1, 1), (4, 2), (2, 1), 1, -1),
    (1, 3, 3, 100, 20, (3, 3), (1, 1), (2, 2), (1, 1), 1, 0),
    (2, 6, 7, 16, 10, (3, 3), (1, 1), (1, 1), (1, 1), 2, 0),
    (1, 7, 7, 72, 27, (3, 2), (2, 1), (1, 1), (1, 2), 9, -1),
    (1, 6, 6, 128, 140, (3, 3), (1, 1), (1, 1), (1, 1), 2, 0),
    (1, 14, 14, 256, 70, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
    (1, 1, 1, 4096, 200, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (1, 1, 1, 77, 12, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (5, 1, 1, 1000, 70, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (3, 1, 1, 65500, 9, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (2, 1, 1, 40000, 40, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0),
    (2, 2, 2, 8200, 3, (2, 2), (1, 1), (1, 1), (1, 1), 1, 0),
    (1, 9, 8, 5, 40, (7, 7), (1, 1), (3, 3), (1, 1), 1, 0),
]


class Case:
    def __init__(self, shape, seed=0):
        n, h, w, c, o, kernel, stride, padding, dilation, groups, pad_value = shape
        self.rng = np.random.default_rng(seed)
        self.x = signs(self.rng, n, h, w, c)
        self.w = signs(self.rng, o, c // groups, *kernel)
        self.geometry = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        self.pad_value = pad_value
        self.sums = convolve(self.x, self.w, fill=pad_value, **self.geometry).astype(np.int64)

    def run(self, target, **finish):
        return testing.bit_layer(
            target, self.x, self.w, pad_value=self.pad_value, **self.geometry, **finish
        )


def random_shapes(count):
    rng = np.random.default_rng(7)
    for _ in range(count):
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        c = int(rng.integers(1, 131)) if groups == 1 else 8 * groups * int(rng.integers(1, 6))
        pair = lambda low, high: tuple(int(v) for v in rng.integers(low, high, 2))  # noqa: E731
        kernel, dilation = pair(1, 4), pair(1, 3)
        h, w = (int(v) for v in rng.integers(5, 14, 2))
        o = groups * int(rng.integers(1, 131 // groups))
        shape = (int(rng.integers(1, 3)), h, w, c, o, kernel, pair(1, 4), pair(0, 3), dilation)
        yield (*shape, groups, int(rng.integers(-1, 2)))


@pytest.mark.parametrize("shape", SHAPES + list(random_shapes(30)), ids=str)
def test_sums_equal_the_naive_product(target, shape):
    case = Case(shape)
    np.testing.assert_array_equal(case.run(target)["sums"], case.sums)


def expected_signs(sums, thresholds, flips):
    plus = np.where(flips, sums <= thresholds, sums >= thresholds)
    return np.where(plus, 1.0, -1.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_thresholds_with_flips(target, shape):
    case = Case(shape, seed=1)
    o = case.w.shape[0]
    # The middle sums, so that >= and > differ, and the extremes, where all or none pass.
    thresholds = np.median(case.sums.reshape(-1, o), axis=0).astype(np.int32)
    thresholds[::7] = np.iinfo(np.int32).max
    thresholds[3::7] = np.iinfo(np.int32).min
    thresholds[1::5] = case.sums[0, 0, 0, 1::5]
    flips = (case.rng.random(o) < 0.4).astype(np.uint8)
    got = case.run(target, thresholds=thresholds, flips=flips)["bits"]
    np.testing.assert_array_equal(
        bits_to_signs(got, o), expected_signs(case.sums, thresholds, flips)
    )


@pytest.mark.parametrize("shape", SHAPES[:14], ids=str)
@pytest.mark.parametrize("nchw", [False, True])
def test_affine_with_residual_and_signs_is_numpy_float32(target, shape, nchw):
    case = Case(shape, seed=2)
    o = case.w.shape[0]
    scale, shift = case.rng.standard_normal((2, o)).astype(np.float32)
    residual = case.rng.standard_normal(case.sums.shape).astype(np.float32)
    want = scale * case.sums.astype(np.float32) + shift + residual
    got = case.run(target, scale=scale, shift=shift, residual=residual, nchw=nchw, signs=True)
    values = got["values"].transpose(0, 2, 3, 1) if nchw else got["values"]
    np.testing.assert_array_equal(values, want)
    np.testing.assert_array_equal(bits_to_signs(got["bits"], o), np.where(want < 0, -1.0, 1.0))


@pytest.mark.parametrize("shape", SHAPES[3:16], ids=str)
@pytest.mark.parametrize(("pieces", "threads"), [(2, 1), (7, 1), (1000, 1), (1, 3)])
def test_any_division_gives_the_same_result(target, shape, pieces, threads):
    case = Case(shape, seed=3)
    got = case.run(target, pieces=pieces, threads=threads)["sums"]
    np.testing.assert_array_equal(got, case.sums)


def levels_case(shape, low, ternary, pad_value, seed=4):
    """A case with inputs of `low` and 1 and, if `ternary`, weights of -1, 0 and 1."""
    case = Case(shape, seed=seed)
    if ternary:
        case.w = case.rng.choice([-1.0, 0.0, 1.0], case.w.shape).astype(np.float32)
        case.w[0] = 0
    seen = (case.x + 1) / 2 if low == 0 else case.x
    case.sums = convolve(seen, case.w, fill=pad_value, **case.geometry).astype(np.int64)
    case.pad_value = pad_value
    return case


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize("ternary", [False, True])
def test_inputs_of_zero_and_one_and_ternary_weights(target, shape, low, ternary):
    pad_value = abs(shape[-1]) if low == 0 else shape[-1]
    case = levels_case(shape, low, ternary, pad_value)
    np.testing.assert_array_equal(case.run(target, low=low)["sums"], case.sums)
    o = case.w.shape[0]
    thresholds = np.median(case.sums.reshape(-1, o), axis=0).astype(np.int32)
    thresholds[::7] = np.iinfo(np.int32).max
    thresholds[3::7] = np.iinfo(np.int32).min
    flips = (case.rng.random(o) < 0.4).astype(np.uint8)
    got = case.run(target, low=low, thresholds=thresholds, flips=flips, pieces=3)["bits"]
    np.testing.assert_array_equal(
        bits_to_signs(got, o), expected_signs(case.sums, thresholds, flips)
    )
    scale, shift = case.rng.standard_normal((2, o)).astype(np.float32)
    got = case.run(target, low=low, scale=scale, shift=shift)["values"]
    np.testing.assert_array_equal(got, scale * case.sums.astype(np.float32) + shift)


def test_all_bits_differ(target):
    x, w = np.ones((1, 6, 6, 512), np.float32), -np.ones((64, 512, 3, 3), np.float32)
    got = testing.bit_layer(target, x, w, padding=(1, 1), pad_value=1)["sums"]
    np.testing.assert_array_equal(got, np.full((1, 6, 6, 64), -9 * 512))


def test_padding_with_minus_one_beside_zeros_and_ones(target):
    x, w = np.ones((1, 4, 4, 8), np.float32), np.ones((3, 8, 3, 3), np.float32)
    with pytest.raises(ValueError, match="0 and 1 have no bit for padding with -1"):
        testing.bit_layer(target, x, w, padding=(1, 1), pad_value=-1, low=0)


@pytest.mark.parametrize(
    ("x", "w", "groups", "message"),
    [
        ((1, 4, 4, 12), (4, 6, 1, 1), 2, "multiple of 8 input channels"),
        ((1, 4, 4, 16), (3, 8, 1, 1), 2, "divisible by groups"),
        ((1, 2, 2, 8), (3, 8, 3, 3), 1, "does not fit"),
    ],
)
def test_refusals(target, x, w, groups, message):
    with pytest.raises(ValueError, match=message):
        testing.bit_layer(target, np.ones(x, np.float32), np.ones(w, np.float32), groups=groups)
