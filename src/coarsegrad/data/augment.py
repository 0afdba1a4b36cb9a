"""Augmentation of whole batches: pad, crop, flip, chosen by (seed, epoch, step) alone."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation: TypeAlias = Literal["none", "crop_flip"]

_MID_GREY = 128


def crop_flip(x: Tensor, *, seed: int, epoch: int, step: int, pad: int = 4) -> Tensor:
    """Return each image shifted by up to ``pad`` pixels both ways and mirrored with p = 1/2.

    As usual for CIFAR-10 (Lee et al. 2015, arXiv:1409.5185): a border of ``pad`` pixels, a crop of
    the old size at one of (2 pad + 1)^2 places, a horizontal flip. The border is 128 in uint8
    images and 0 in float ones: both are the mid-grey that ``pixels`` maps to 0, so augmenting and
    scaling commute. (torchvision's recipes pad black, before they subtract the mean.)

    Three Philox words an image decide, of key (seed, epoch) and a counter that ``step`` sets and
    ``Batches`` does not use for its permutation. No random state is read or changed.

    Args:
        x: (N, C, H, W), uint8 or floating point; it stays as it was.
        seed: 0 .. 2**64 - 1.
        epoch: likewise.
        step: likewise; the number of the batch in its epoch.
        pad: width of the border, 0 or more.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: x is not as above, or ``pad`` is negative.

    >>> x = torch.arange(1, 5, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> crop_flip(x, seed=0, epoch=0, step=0, pad=1)
    tensor([[[[  3,   4],
              [128, 128]]]], dtype=torch.uint8)
    """
    if x.dim() != 4 or not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise ValueError(
            "crop_flip needs images (N, C, H, W), uint8 or floating point, got "
            f"{x.dtype} of shape {tuple(x.shape)}"
        )
    if pad < 0:
        raise ValueError(f"crop_flip needs pad as an integer of 0 or more, got {pad!r}")
    count, _, height, width = x.shape
    key = np.array([seed, epoch], np.uint64)
    counter = np.array([0, 0, step, 1], np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(3 * count).reshape(3, count, 1)
    top, left = (words[:2] % (2 * pad + 1)).astype(np.int64)
    there = np.arange(width)
    rows = top + np.arange(height)
    columns = left + np.where(words[2] >> 63, there[::-1], there)
    padded = F.pad(x, (pad,) * 4, value=_MID_GREY if x.dtype == torch.uint8 else 0)
    which, rows, columns = (
        torch.from_numpy(index).to(x.device)
        for index in (np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    )
    # Index tensors with a slice between them put the channels last.
    return padded[which, :, rows, columns].permute(0, 3, 1, 2).contiguous()
