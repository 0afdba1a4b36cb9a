"""The three methods: their rates, the same steps as the optimizers', and divergence by name."""

from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.errors import DivergenceError
from coarsegrad.optim import ClippedSGD, NormalizedSGD
from coarsegrad.theory.smoothness import (
    bowl,
    clipped_rate,
    descend,
    fixed_rate,
    flat,
    hyperbolic,
    monomial,
    normalised_rate,
    steep,
    steep_limit,
)


def test_normalised_steps_are_between_half_and_all_of_the_clipped_ones() -> None:
    ratios = []
    for eta in (0.01, 0.1, 3.0):
        for gamma in (0.2, 1.0, 50.0):
            long, short = clipped_rate(eta, gamma), normalised_rate(gamma * eta, gamma)
            norms = [0.0, *(gamma * 10 ** (k / 20) for k in range(-100, 101))]
            ratios += [short(norm) / long(norm) for norm in norms]
    assert min(ratios) == pytest.approx(0.5), "where the gradient's norm is gamma"
    assert 0.5 * (1 - 1e-15) <= min(ratios) <= max(ratios) <= 1 + 1e-15


@pytest.mark.parametrize("method", ["clipped", "normalised"])
def test_the_optimizers_take_the_same_steps(method: str) -> None:
    eta, gamma = 0.3, 2.0
    w = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
    rule = {
        "clipped": lambda: ClippedSGD([w], lr=eta, max_norm=gamma),
        "normalised": lambda: NormalizedSGD([w], lr=gamma * eta, beta=gamma),
    }[method]()
    rate = clipped_rate(eta, gamma) if method == "clipped" else normalised_rate(gamma * eta, gamma)
    path: list[tuple[float, ...]] = []
    descend([hyperbolic(), bowl()], [3.0, 1.0], rate, 1e-3, 40, lambda t, x, n: path.append(x))
    assert len(path) > 5
    for x in path:
        assert w.detach().tolist() == pytest.approx(x, rel=1e-12)
        rule.zero_grad()
        (torch.cosh(w[0]) + w[1] ** 2 / 2).backward()
        rule.step()


def test_an_end() -> None:
    found = descend([bowl(), bowl()], [3.0, 4.0], fixed_rate(0.5), 0.1, 100)
    assert found.iterations == 6, "5 / 2^6 < 0.1"
    assert found.norm == 5 / 64
    assert found.x == (3 / 64, 4 / 64)
    assert descend([bowl()], [0.1], fixed_rate(1.0), 0.1, 0).iterations == 0, "already there"
    cut = descend([bowl()], [8.0], fixed_rate(0.5), 0.1, 3)
    assert (cut.iterations, cut.x, cut.norm) == (None, (1.0,), 1.0)


@pytest.mark.parametrize("m", [1e1, 1e3, 1e6])
@pytest.mark.parametrize("l1", [1.0, 2.0])
def test_the_steep_function_bears_no_longer_step(m: float, l1: float) -> None:
    """C3: at 0.999 of the limit it descends, at 1.001 of it, it diverges, by name."""
    start = [(math.log(m) + 1) / l1]
    assert steep(l1).slope(start[0]) == pytest.approx(m)
    limit = steep_limit(l1, m)
    assert descend([steep(l1)], start, fixed_rate(0.999 * limit), 1e-2, 10**6).iterations
    with pytest.raises(DivergenceError, match=r"diverged at iteration \d+: x is .*; lower the"):
        descend([steep(l1)], start, fixed_rate(1.001 * limit), 1e-2, 10**6)


def test_divergence_of_every_kind_of_overflow() -> None:
    for curve in (hyperbolic(), monomial(4), monomial(3), steep()):
        with pytest.raises(DivergenceError, match="diverged at iteration"):
            descend([curve], [-9.0], fixed_rate(1e4), 1e-2, 1000)
    seen: list[int] = []
    with pytest.raises(DivergenceError, match=r"diverged at iteration 0: x is \(nan,\)"):
        descend([bowl()], [math.nan], fixed_rate(1.0), 1e-2, 10, lambda t, x, n: seen.append(t))
    assert not seen


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="start for each curve, got 1 for 2"):
        descend([bowl(), bowl()], [1.0], fixed_rate(1.0), 0.1, 10)
    with pytest.raises(ValueError, match="most >= 0 iterations, got -1"):
        descend([bowl()], [1.0], fixed_rate(1.0), 0.1, -1)
    with pytest.raises(ValueError, match="finite eps > 0, got 0"):
        descend([flat(0.1)], [1.0], fixed_rate(1.0), 0.0, 10)
    for rate in (fixed_rate, lambda h: clipped_rate(h, 1.0), lambda h: normalised_rate(1.0, h)):
        with pytest.raises(ValueError, match="> 0, got -1"):
            rate(-1.0)
