"""Algorithm 1 against a literal twin, where it ends, and what it recovers."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from coarsegrad.errors import DivergenceError, InputError
from coarsegrad.theory import (
    OneLayer,
    Splitting,
    angle,
    direction,
    limit,
    random_starts,
    rvscgd,
    sparse_teachers,
)
from coarsegrad.theory.one_layer import thresholds

SPLITTINGS = [
    Splitting(penalty, lam, beta, eta=0.02, a=a)
    for lam, beta in ((1e-4, 4e-3), (2e-2, 0.4))
    for penalty, a in (("l0", 1.0), ("l1", 1.0), ("transformed_l1", 1.0), ("transformed_l1", 0.1))
]


def literal(net: OneLayer, s: Splitting, w: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Algorithm 1 and section 3.3 as they are written; returns w and theta's path."""
    w, z, path = direction(w), torch.zeros_like(w), []
    for _ in range(iterations):
        u = s.prox(w + z / s.beta)
        hat = w - s.eta * (net.coarse_gradient(w) + z + s.beta * (w - u))
        w = direction(hat)
        z = z + s.beta * (w - u) if s.admm else z
        path.append(torch.stack([angle(w, net.star), s.lagrangian(net, u, w)]))
    return w, torch.stack(path)


@pytest.mark.parametrize("admm", [False, True])
@pytest.mark.parametrize("splitting", SPLITTINGS[4:], ids=lambda s: f"{s.penalty}-{s.a}")
def test_is_algorithm_1(splitting: Splitting, admm: bool) -> None:
    s = Splitting(splitting.penalty, splitting.lam, splitting.beta, 0.02, splitting.a, admm)
    net = OneLayer(sparse_teachers(12, 4, seeds=3))
    w, path = literal(net, s, random_starts(12, 3), 40)
    run = rvscgd(net, s, random_starts(12, 3), 40, every=1)
    torch.testing.assert_close(run.w, w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(run.theta[1:], path[:, 0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(run.lagrangian[1:], path[:, 1], rtol=1e-9, atol=1e-12)
    theta = torch.cat([angle(random_starts(12, 3), net.star)[None], path[:, 0]])
    assert torch.equal(run.rises[0], (theta.diff(dim=0) > 1e-14).sum(0).double())
    torch.testing.assert_close(run.largest[0], theta.diff(dim=0).amax(0).clamp(min=0),
                               rtol=1e-6, atol=1e-14)  # fmt: skip


@pytest.mark.parametrize("splitting", SPLITTINGS, ids=lambda s: f"{s.penalty}-{s.a}-{s.beta}")
def test_the_thresholds_of_the_loop_are_those_of_prox(splitting: Splitting) -> None:
    x = random_starts(50, 20).numpy()
    u = np.empty_like(x)
    splitting.in_place(x.shape)(x, u)
    expected = splitting.prox(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(u, expected, rtol=1e-13, atol=1e-16)
    assert 0 < (u != 0).mean() < 1


def test_a_tie_is_zero_in_the_loop_too() -> None:
    x, u = np.array([-2.0, 2.0, 2.0 + 1e-9]), np.empty(3)
    thresholds.hard(2.0, (3,))(x, u)
    assert u.tolist() == [0, 0, 2 + 1e-9]


@pytest.mark.parametrize("splitting", SPLITTINGS, ids=lambda s: f"{s.penalty}-{s.a}-{s.beta}")
def test_ends_where_theorem_1_says(splitting: Splitting) -> None:
    """Lemma 7's identity to 1e-9, (12) to 1e-10, (13), 0 < C <= 1."""
    net = OneLayer(sparse_teachers(50, 10, seeds=4))
    run = rvscgd(net, splitting, random_starts(50, 4), 1500)
    found = limit(net, splitting, run.w)
    assert float(found.identity.abs().max()) < 1e-9
    assert float(found.residual.max()) < 1e-10
    assert bool(((found.c > 0) & (found.c <= 1 + 1e-12)).all())
    assert bool((found.distance <= found.bound + 1e-12).all())
    assert float(angle(run.w, net.star).max()) < 0.2


@pytest.mark.parametrize(("s", "exact"), [(2, True), (19, True), (20, False)])
def test_l0_recovers_supports_whose_entries_pass_the_threshold(s: int, exact: bool) -> None:
    """sqrt(2 lam / beta) is 1/sqrt(20): 19 equal entries of a unit vector are above, 20 are not."""
    star = sparse_teachers(50, s, "equal", seeds=20)
    run = rvscgd(OneLayer(star), Splitting(eta=0.02), random_starts(50, 20), 1500)
    assert not bool(((run.u != 0) & (star == 0)).any())
    assert bool(((run.u != 0) == (star != 0)).all(1).all()) == exact
    assert exact or not bool(((run.u != 0) == (star != 0)).all(1).any())


@pytest.mark.slow
@pytest.mark.parametrize("s", range(2, 21))
def test_l0_recovers_every_support_up_to_19(s: int) -> None:
    star = sparse_teachers(50, s, "equal", seeds=20)
    run = rvscgd(OneLayer(star), Splitting(eta=0.02), random_starts(50, 20), 5000)
    same = ((run.u != 0) == (star != 0)).all(1)
    assert int(same.sum()) == (20 if s <= 19 else 0)
    assert not bool(((run.u != 0) & (star == 0)).any())


@pytest.mark.slow
def test_a_hundred_thousand_iterations_of_twenty_seeds_take_seconds() -> None:
    net = OneLayer(sparse_teachers(50, 10))
    start = time.process_time()
    rvscgd(net, Splitting(), random_starts(50), 100_000)
    assert time.process_time() - start < 20


def test_a_run_that_diverges_is_named() -> None:
    star = sparse_teachers(4, 1)[:1]
    with pytest.raises(
        DivergenceError, match=r"diverged at iteration 10: .*take an eta below 1e-05"
    ):
        rvscgd(OneLayer(star), Splitting(), star * torch.nan, 10)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lam": -1.0}, "a finite lam >= 0, got -1.0"),
        ({"beta": -1.0}, "a finite beta > 0, got -1.0"),
        ({"beta": 0.0}, "a finite beta > 0, got 0.0"),
        ({"eta": float("inf")}, "a finite eta > 0, got inf"),
        ({"a": 0.0}, "a finite a > 0, got 0.0"),
        ({"penalty": "l2"}, "a penalty of l0, l1, transformed_l1, got 'l2'"),
    ],
)
def test_refuses(bad: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Splitting(**bad)  # type: ignore[arg-type]


def test_refuses_teachers_that_do_not_exist() -> None:
    with pytest.raises(InputError, match=r"got s = 5, d = 4"):
        sparse_teachers(4, 5)
