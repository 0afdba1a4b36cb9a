import numpy as np
import pytest

from .conftest import bits_to_signs, native, signs, windows

testing = native.testing


@pytest.mark.parametrize("channels", [1, 3, 8, 9, 16, 31, 32, 33, 64, 100, 130])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (14, 13)])
@pytest.mark.parametrize("nchw", [False, True])
def test_packing(target, channels, size, nchw):
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((2, *size, channels)).astype(np.float32)
    x.flat[:: x.size // 5 + 1] = np.nan
    x.flat[1 :: x.size // 4 + 1] = -0.0
    x.flat[2 :: x.size // 3 + 1] = -np.float32(1e-45)
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if nchw else x
    for pieces in (1, 3):
        got = testing.pack(target, given, nchw=nchw, ring=(2, 1), pieces=pieces)
        np.testing.assert_array_equal(bits_to_signs(got, channels), np.where(x < 0, -1.0, 1.0))


POOLS = [
    ((2, 2), (2, 2), (0, 0), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 2), (1, 3), (1, 0), (2, 1)),
    ((5, 5), (1, 1), (2, 2), (1, 1)),
]
# The middle of a window lies inside, or its edges: rows without cells, and columns further left.
SPREAD = [((2, 2), (1, 1), (1, 1), (8, 8)), ((2, 2), (1, 1), (1, 1), (5, 8))]


@pytest.mark.parametrize("channels", [1, 31, 64, 70])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), POOLS + SPREAD)
@pytest.mark.parametrize("pieces", [1, 4])
def test_bit_pool(target, channels, kernel, stride, padding, dilation, pieces):
    rng = np.random.default_rng(0)
    x = signs(rng, 2, 7, 9, channels)
    everyone = (rng.random(channels) < 0.5).astype(np.uint8)

    def pooled(fill, reduce):
        return reduce(windows(x, kernel, stride, padding, dilation, fill), axis=(3, 4))

    want = np.where(everyone, pooled(1, np.min), pooled(-1, np.max))
    got = testing.bit_pool(
        target, x, kernel, stride, padding, dilation, all_mask=everyone, pieces=pieces
    )
    np.testing.assert_array_equal(bits_to_signs(got, channels), want)
    got = testing.bit_pool(target, x, kernel, stride, padding, dilation)
    np.testing.assert_array_equal(bits_to_signs(got, channels), pooled(-1, np.max))


@pytest.mark.parametrize(
    ("width", "channels", "kernel"), [(700, 33, 3), (300, 64, 2), (9, 9000, 2), (5, 7000, 3)]
)
def test_bit_pool_of_wide_rows_and_of_large_pixels(target, width, channels, kernel):
    rng = np.random.default_rng(0)
    x = signs(rng, 1, 4, width, channels)
    everyone = (rng.random(channels) < 0.5).astype(np.uint8)
    cells = windows(x, (kernel, kernel), (1, 2), (0, 0), (1, 1), 0)
    want = np.where(everyone, cells.min(axis=(3, 4)), cells.max(axis=(3, 4)))
    got = testing.bit_pool(target, x, (kernel, kernel), (1, 2), all_mask=everyone)
    np.testing.assert_array_equal(bits_to_signs(got, channels), want)


@pytest.mark.parametrize("channels", [1, 5, 32])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), POOLS)
@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("width", [9, 45])
def test_float_pool(target, channels, kernel, stride, padding, dilation, nchw, width):
    rng = np.random.default_rng(0)
    x = rng.integers(-8, 8, (2, 7, width, channels)).astype(np.float32)
    x[0, 3, 4, 0] = np.nan
    given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if nchw else x

    def run(**kwargs):
        got = testing.float_pool(
            target, given, kernel, stride, padding, dilation, nchw=nchw, pieces=3, **kwargs
        )
        return got.transpose(0, 2, 3, 1) if nchw else got

    cells = windows(x, kernel, stride, padding, dilation, -np.inf)
    np.testing.assert_array_equal(run(), cells.max(axis=(3, 4)))
    total = windows(x, kernel, stride, padding, dilation, 0).sum(axis=(3, 4))
    np.testing.assert_array_equal(run(average=True), total / np.float32(kernel[0] * kernel[1]))
    inside = windows(np.ones_like(x), kernel, stride, padding, dilation, 0).sum(axis=(3, 4))
    np.testing.assert_array_equal(run(average=True, count_padding=False), total / inside)


def test_the_first_of_equal_cells_and_any_nan(target):
    """Zeros keep the sign of the first of them, and a NaN in any cell is the result."""
    zeros = np.array([0.0, -0.0], np.float32)
    cells = np.array(np.meshgrid(*[zeros] * 4)).reshape(4, 16)
    broken = np.zeros((4, 4), np.float32)
    np.fill_diagonal(broken, np.nan)
    windows = np.concatenate([cells, broken], axis=1).reshape(2, 2, 20)
    x = np.ascontiguousarray(windows.transpose(0, 2, 1).reshape(1, 1, 2, 40))
    got = testing.float_pool(target, x, (2, 2), (2, 2), (0, 0), (1, 1), nchw=True).reshape(20)
    np.testing.assert_array_equal(np.signbit(got[:16]), np.signbit(cells[0]))
    assert (got[:16] == 0).all()
    assert np.isnan(got[16:]).all()


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), POOLS)
@pytest.mark.parametrize("width", [9, 45])
def test_an_average_adds_row_after_row(target, kernel, stride, padding, dilation, width):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 7, width, 3)).astype(np.float32)
    cells = windows(x, kernel, stride, padding, dilation, 0)
    total = np.zeros_like(cells[:, :, :, 0, 0])
    for row, column in np.ndindex(*kernel):
        total += cells[:, :, :, row, column]
    for nchw in (False, True):
        given = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if nchw else x
        got = testing.float_pool(
            target, given, kernel, stride, padding, dilation, nchw=nchw, average=True
        )
        got = got.transpose(0, 2, 3, 1) if nchw else got
        np.testing.assert_array_equal(got, total / np.float32(kernel[0] * kernel[1]))
