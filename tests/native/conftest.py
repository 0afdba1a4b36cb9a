"""The naive +-1 products that every kernel target must equal bit for bit."""

import numpy as np
import pytest

native = pytest.importorskip("coarsegrad._native")

RUNNABLE = [name for name, _, runs, _ in native.targets() if runs]


@pytest.fixture(params=RUNNABLE)
def target(request):
    return request.param


def signs(rng, *shape):
    return np.where(rng.random(shape) < 0.5, -1.0, 1.0).astype(np.float32)


def windows(x, kernel, stride, padding, dilation, fill):
    """NHWC -> (n, out_h, out_w, kernel_h, kernel_w, c) of the padded input."""
    x = np.pad(x, [(0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)], constant_values=fill)
    out = [(x.shape[1 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    cells = [
        [
            x[:, kh * dilation[0] :, kw * dilation[1] :][:, :: stride[0], :: stride[1]][
                :, : out[0], : out[1]
            ]
            for kw in range(kernel[1])
        ]
        for kh in range(kernel[0])
    ]
    return np.array(cells).transpose(2, 3, 4, 0, 1, 5)


def convolve(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, fill=0.0):
    """Products and sums of NHWC `x` with torch-ordered `w`, as (n, out_h, out_w, out_channels)."""
    cells = windows(x, w.shape[2:], stride, padding, dilation, fill)
    per_group, outputs = w.shape[1], w.shape[0] // groups
    parts = [
        np.einsum(
            "nhwijc,ocij->nhwo",
            cells[..., g * per_group : (g + 1) * per_group].astype(np.float64),
            w[g * outputs : (g + 1) * outputs].astype(np.float64),
            optimize=True,
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=-1)


def bits_to_signs(result, channels):
    """Signs from (bytes, intact); checks the spare bits and everything around the interior."""
    packed, intact = result
    assert intact, "a kernel wrote outside the interior"
    bits = np.unpackbits(packed, axis=-1, bitorder="little")
    assert not bits[..., channels:].any(), "spare bits must be 0"
    return 1.0 - 2.0 * bits[..., :channels]
