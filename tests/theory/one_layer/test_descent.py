"""Lemmas 4 to 6 on random states, and the counterexamples to what is printed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from coarsegrad.theory import (
    OneLayer,
    Splitting,
    angle,
    angle_margin,
    direction,
    lemma4_slack,
    lemma6,
    lipschitz_ratio,
    random_starts,
    rvscgd,
    sparse_teachers,
)


def states(count: int, d: int = 8) -> tuple[OneLayer, Tensor, Tensor]:
    """Random w1, and w2 at random distances from it, both of norm 1."""
    generator = torch.Generator().manual_seed(0)
    star, first, second = (
        direction(torch.randn(n, d, dtype=torch.float64, generator=generator))
        for n in (1, count, count)
    )
    share = 10 ** (-4 * torch.rand(count, 1, dtype=torch.float64, generator=generator))
    near = torch.rand(count, 1, dtype=torch.float64, generator=generator) < 0.5
    first = torch.where(near, direction(star + share * first), first)
    return OneLayer(star), first, direction(first + share * second)


def test_lemma_4_holds_where_the_angle_does_not_grow_and_only_there() -> None:
    net, w1, w2 = states(20_000)
    slack = lemma4_slack(net, w1, w2)
    falls = angle(w2, net.star) <= angle(w1, net.star)
    assert float(slack[falls].min()) > -1e-12
    assert float(slack[~falls].min()) < -1e-3
    step = ((w2 - w1) ** 2).sum(-1)
    assert float((-2 * slack / step)[~falls].max()) > 100 * net.strength


def test_the_coarse_gradient_is_lipschitz_and_the_true_one_is_not() -> None:
    net, w1, w2 = states(20_000)
    ratio = lipschitz_ratio(net, w1, 1.7 * w2, coarse=True)
    assert float(ratio.max()) <= net.strength * (1 + 1e-9)
    star = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for p in (0.1, 0.01, 0.001):
        up, down = (torch.tensor([math.cos(p), s * math.sin(p)], dtype=torch.float64)
                    for s in (1, -1))  # fmt: skip
        found = float(lipschitz_ratio(OneLayer(star), up, down, coarse=False))
        assert found == pytest.approx(10 / (math.pi * math.tan(p)), rel=1e-9)


@pytest.mark.parametrize("penalty", ["l0", "l1", "transformed_l1"])
def test_lemma_5_is_exact_for_small_steps(penalty: str) -> None:
    """theta falls in a small step where A sin theta >= beta |u| sin gamma."""
    net, w, _ = states(20_000)
    splitting = Splitting(penalty, lam=0.05, beta=2.0, eta=1e-7)  # type: ignore[arg-type]
    u = splitting.prox(w)
    margin = angle_margin(net, splitting, w, u)
    change = lemma6(net, splitting, w, u).theta
    safe = margin > 1e-5
    assert 0.5 < float(safe.double().mean()) < 1
    assert float(change[safe].max()) <= 1e-14
    assert float(change[margin < -1e-5].max()) > 0


def test_lemma_6_in_exact_form() -> None:
    net, w, _ = states(20_000)
    splitting = Splitting("l1", lam=0.1, beta=2.0, eta=1 / (2.0 + net.strength))
    found = lemma6(net, splitting, w, splitting.prox(w))
    falls = found.theta <= 0
    assert float((found.change - found.bound)[falls].max()) <= 1e-12
    assert float(found.bound.max()) <= 0
    assert float(found.change[~falls].max()) > 1e-6


def test_theorem_1s_monotonicity_has_a_counterexample() -> None:
    """Start at w*: hypotheses (i) to (iii) hold, and both angle and Lagrangian rise."""
    net = OneLayer(sparse_teachers(50, 10, seeds=1))
    splitting = Splitting("l1", lam=2e-2, beta=0.4, eta=0.02)
    assert splitting.beta < net.strength
    assert splitting.lam < net.strength / math.sqrt(50)
    assert splitting.eta < 1 / (splitting.beta + net.strength)
    assert float(angle_margin(net, splitting, net.star, splitting.prox(net.star))) < 0
    run = rvscgd(net, splitting, net.star, 500, every=1)
    assert int(run.rises[0]) > 50
    assert float(run.theta[-1]) > 3e-3 > float(run.theta[1])
    assert float(run.lagrangian[-1]) > 1.1 * float(run.lagrangian[0])


def test_both_fall_while_the_margin_is_positive() -> None:
    net = OneLayer(sparse_teachers(50, 10, seeds=3))
    splitting = Splitting(eta=0.02)
    w = random_starts(50, 3)
    theta = angle(w, net.star)
    for _ in range(200):
        u = splitting.prox(w)
        found = lemma6(net, splitting, w, u)
        safe = angle_margin(net, splitting, w, u) > 1e-9
        assert bool((found.theta[safe] <= 0).all())
        assert bool((found.change[safe] <= 1e-15).all())
        w = direction(w - splitting.eta * (net.coarse_gradient(w) + splitting.beta * (w - u)))
    assert bool((angle(w, net.star) < theta).all())
