"""The Shubert surface, and the two models on it."""

from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.errors import DivergenceError
from coarsegrad.optim import BAMSProd
from coarsegrad.theory.landscape import (
    LEAST,
    Landscape,
    binarized,
    descend,
    random_plane,
    reachable,
    shubert,
    starts,
)


def test_shubert_by_hand() -> None:
    def one(p: float) -> float:
        return sum(i * math.cos((i + 1) * p + i) for i in range(1, 6))

    points = torch.tensor([[0.3, -1.2], [2.0, 5.0]], dtype=torch.float64)
    assert shubert(points).tolist() == pytest.approx([one(a) * one(b) for a, b in points.tolist()])
    axis = torch.linspace(-10, 10, 1000, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    assert LEAST <= float(shubert(grid).min()) < LEAST + 1


def test_the_binary_model_ends_higher_though_good_points_exist() -> None:
    land, start = Landscape(random_plane(12, 0)), starts(30, 12)
    ends = {
        (name, binary): descend(land, start, make, 300, binary=binary).losses[-1].median()
        for name, make in {
            "Adam": lambda p: torch.optim.Adam(p, lr=1e-2),
            "BAMSProd": lambda p: BAMSProd(p, lr=1e-2, per="channel"),
        }.items()
        for binary in (False, True)
    }  # fmt: skip
    for name in ("Adam", "BAMSProd"):
        assert ends[name, False] < -20 < -10 < ends[name, True]
    assert reachable(land, torch.linspace(0, 1, 51).double()) < -180


def test_rows_are_runs_of_their_own() -> None:
    land, start = Landscape(random_plane(6, 1)), starts(3, 6)
    for make in (lambda p: torch.optim.Adam(p, lr=1e-2),
                 lambda p: BAMSProd(p, lr=1e-2, per="channel")):  # fmt: skip
        together = descend(land, start, make, 20, binary=True)
        alone = descend(land, start[1:2], make, 20, binary=True)
        assert torch.allclose(together.points[:, 1], alone.points[:, 0], atol=1e-12)


def test_the_gradient_is_that_of_the_binary_point() -> None:
    land, start = Landscape(random_plane(6, 1)), starts(1, 6)
    paths = descend(land, start, lambda p: torch.optim.SGD(p, lr=1e-6), 1, binary=True, box=None)
    at = binarized(start).requires_grad_()
    (slope,) = torch.autograd.grad(land.loss(at).sum(), at)
    after = land.point(binarized(start - 1e-6 * slope))
    assert torch.allclose(paths.points[1], after, atol=1e-12)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"orthonormal rows, got \(2, 3\)"):
        Landscape(torch.ones(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="d of at most 16, got 17"):
        reachable(Landscape(random_plane(17, 0)), torch.ones(1).double())
    with pytest.raises(DivergenceError, match="diverged at iteration 1"):
        descend(Landscape(random_plane(6, 0)), starts(1, 6),
                lambda p: torch.optim.SGD(p, lr=math.inf), 3, binary=False, box=None)  # fmt: skip
