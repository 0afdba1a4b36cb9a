"""Sparse teachers w* and random starts, by seed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from coarsegrad.errors import InputError
from coarsegrad.theory.one_layer.network import direction

Entries = Literal["equal", "uniform", "gaussian"]
"""Sizes of w*'s entries: all the same, U(0.5, 1.5) with random signs, or N(0, 1)."""


def sparse_teachers(d: int, s: int, entries: Entries = "uniform", seeds: int = 20) -> Tensor:
    """Return unit w* with s entries that are not 0, (seeds, d), for the seeds 0 to seeds - 1.

    Raises:
        InputError: not 1 <= s <= d, or ``entries`` is another word.

    >>> star = sparse_teachers(50, 4, "equal", seeds=2)
    >>> star.abs().unique().tolist(), (star != 0).sum(1).tolist()
    ([0.0, 0.5], [4, 4])
    """
    if not 1 <= s <= d or entries not in ("equal", "uniform", "gaussian"):
        raise InputError(
            "sparse_teachers needs 1 <= s <= d and entries of equal, uniform, gaussian, got "
            f"s = {s}, d = {d}, entries = {entries!r}"
        )
    made = torch.zeros(seeds, d, dtype=torch.float64)
    for seed, row in enumerate(made):
        generator = torch.Generator().manual_seed(seed)
        where = torch.randperm(d, generator=generator)[:s]
        sign = 1 - 2 * torch.randint(2, (s,), generator=generator).double()
        size = torch.ones(s, dtype=torch.float64)
        if entries == "uniform":
            size = 0.5 + torch.rand(s, dtype=torch.float64, generator=generator)
        if entries == "gaussian":
            size = torch.randn(s, dtype=torch.float64, generator=generator).abs()
        row[where] = sign * size
    return direction(made)


def random_starts(d: int, seeds: int = 20) -> Tensor:
    """Return unit w^0, uniform on the sphere, (seeds, d), for the seeds 0 to seeds - 1.

    >>> random_starts(50, 3).norm(dim=1).round(decimals=12).tolist()
    [1.0, 1.0, 1.0]
    """
    rows = [
        torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(1000 + seed))
        for seed in range(seeds)
    ]
    return direction(torch.stack(rows))
