"""Pad, crop, flip: against a loop over images, and what decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from coarsegrad.data import crop_flip, pixels

WHERE = {"seed": 3, "epoch": 1, "step": 2}


def images(n: int = 6, dtype: torch.dtype = torch.uint8) -> Tensor:
    x = torch.randint(0, 256, (n, 3, 5, 7), generator=torch.Generator().manual_seed(0))
    return x.to(dtype)


def places(x: Tensor, pad: int, border: float) -> list[Tensor]:
    """Every crop of one image, and every mirrored one."""
    _, height, width = x.shape
    padded = F.pad(x, (pad,) * 4, value=border)
    crops = [
        padded[:, i : i + height, j : j + width]
        for i in range(2 * pad + 1)
        for j in range(2 * pad + 1)
    ]
    return crops + [crop.flip(2) for crop in crops]


@pytest.mark.parametrize(("dtype", "border"), [(torch.uint8, 128), (torch.float32, 0.0)])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_every_image_is_one_of_its_crops_and_all_crops_occur(
    dtype: torch.dtype, border: float, pad: int
) -> None:
    x = images(1, dtype) + 1  # no pixel of the image need be the border's grey
    allowed = places(x[0], pad, border)
    many = crop_flip(x.expand(3000, -1, -1, -1), **WHERE, pad=pad)
    assert many.dtype == dtype
    assert many.shape == (3000, *x.shape[1:])
    counts = [int((many == crop).flatten(1).all(1).sum()) for crop in allowed]
    assert sum(counts) == 3000
    expected = 3000 / len(allowed)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts)


def test_flips_are_half_and_independent_of_the_crop() -> None:
    x = torch.arange(1, 8, dtype=torch.uint8).expand(4000, 1, 7, 7)
    middle = crop_flip(x, **WHERE, pad=1)[:, 0, 3]
    mirrored = middle[:, 4] < middle[:, 3]
    shift = middle[:, 3].to(torch.int64) - 4
    assert abs(mirrored.double().mean() - 0.5) < 0.04
    for side in (-1, 0, 1):
        assert abs(mirrored[shift == side].double().mean() - 0.5) < 0.07


def test_rows_and_columns_of_a_batch_by_hand() -> None:
    """The docstring's words: three a picture, each used for one thing."""
    x = images()
    key, counter = np.array([3, 1], np.uint64), np.array([0, 0, 2, 1], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(18)
    got = crop_flip(x, **WHERE)
    for i in range(6):
        top, left, flip = int(words[i]) % 9, int(words[6 + i]) % 9, int(words[12 + i]) >> 63
        crop = F.pad(x[i], (4,) * 4, value=128)[:, top : top + 5, left : left + 7]
        assert torch.equal(got[i], crop.flip(2) if flip else crop)


def test_augmenting_and_scaling_commute() -> None:
    x = images()
    scaled = torch.from_numpy(pixels(x.numpy()))
    after = pixels(crop_flip(x, **WHERE).numpy())
    assert (crop_flip(scaled, **WHERE).numpy() == after).all()


def test_the_choice_is_fixed_forever() -> None:
    x = torch.arange(1, 50, dtype=torch.uint8).reshape(1, 1, 7, 7).expand(4, -1, -1, -1)
    got = crop_flip(x, seed=2**64 - 1, epoch=2**40, step=5, pad=2)
    assert got[:, 0, 3, 3].tolist() == [25, 11, 25, 24]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=30, deadline=None)
def test_seed_epoch_and_step_decide_and_nothing_else(seed: int, epoch: int, step: int) -> None:
    x = images(64)
    before, state = x.clone(), torch.get_rng_state()
    where = {"seed": seed, "epoch": epoch, "step": step}
    got = crop_flip(x, **where)
    assert torch.equal(got, crop_flip(x, **where))
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())
    for name in where:
        assert not torch.equal(got, crop_flip(x, **{**where, name: where[name] ^ 1}))


def test_any_memory_layout() -> None:
    x = images().to(memory_format=torch.channels_last)
    assert torch.equal(crop_flip(x, **WHERE), crop_flip(x.contiguous(), **WHERE))
    assert crop_flip(x, **WHERE).is_contiguous()
    assert len(crop_flip(x[:0], **WHERE)) == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"x": images()[0]}, r"images \(N, C, H, W\), .* got torch.uint8 of shape \(3, 5, 7\)"),
    ({"x": images().to(torch.int32)}, "uint8 or floating point, got torch.int32"),
    ({"pad": -1}, "pad as an integer of 0 or more, got -1"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_bad_arguments_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match="crop_flip needs .*" + reason):
        crop_flip(**{"x": images(), **WHERE, **change})
