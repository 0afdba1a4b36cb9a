"""The sequences of losses, and the gap between their best and worst points."""

from __future__ import annotations

import re

import numpy as np
import pytest

from coarsegrad.theory.online import (
    TOYS,
    Lottery,
    Quadratic,
    Toy,
    printed1,
    reddi2,
    repaired1,
)


@pytest.mark.parametrize("name", TOYS)
def test_the_gap_is_the_regret_of_the_worst_point(name: str) -> None:
    toy = TOYS[name]()
    period, worst = len(toy.slopes), -toy.best
    regrets = [toy.regret(t, worst) for t in range(1, period + 1)]
    assert sum(regrets) / period == pytest.approx(toy.gap, abs=1e-12)
    assert sum(toy.regret(t, toy.best) for t in range(1, period + 1)) == 0
    assert toy.loss(period + 1, 0.5) == toy.loss(1, 0.5)


def test_gaps_are_the_specifications() -> None:
    gaps = [TOYS[name]().gap for name in ("reddi1", "reddi2", "repaired1", "binary")]
    assert gaps == pytest.approx([4 / 3, 0.2, 0.04, 0.1])


def convex(toy: Toy, t: int) -> bool:
    """Whether no midpoint of a grid on [-1, 1] lies above its ends."""
    grid = np.linspace(-1, 1, 21)
    return all(
        toy.loss(t, (a + b) / 2) <= (toy.loss(t, a) + toy.loss(t, b)) / 2 + 1e-12
        for a in grid for b in grid
    )  # fmt: skip


def test_theorem_1_as_printed_is_not_convex_and_repaired_is() -> None:
    assert not convex(printed1(), 2)
    assert all(convex(repaired1(), t) for t in (1, 2, 3))


def test_theorem_1_as_printed_prefers_minus_1() -> None:
    toy = printed1(ratio=2.0)
    assert [toy.regret(t, -1.0) for t in (1, 2, 3)] == [0, 0, 0]
    assert [toy.regret(t, 1.0) for t in (1, 2, 3)] == [2, -1, 1]


@pytest.mark.parametrize("C", [9, 2])
def test_a_period_that_does_not_fool_adam_is_refused(C: int) -> None:
    with pytest.raises(ValueError, match=rf"provably fails .* got {C}; 10 is the smallest"):
        reddi2(C)
    with pytest.raises(ValueError, match=rf"repaired1 needs C .* got {C}; 50 is enough"):
        repaired1(C)


def test_points() -> None:
    binary = reddi2(binary=0.5)
    assert [binary.point(w) for w in (-0.1, 0.0, 2.0)] == [-0.5, 0.5, 0.5]
    assert binary.point(np.array([-0.1, 0.0])).tolist() == [-0.5, 0.5]
    assert reddi2().point(0.3) == 0.3
    problem, w = Quadratic(), np.array([0.5, -0.1])
    x = problem.point(w)
    assert x.tolist() == [0.3, -0.3]
    assert problem.gradient(1, x) == pytest.approx([-0.6, -0.4])
    assert problem.regret(1, x) == pytest.approx((0.36 + 0.16) / 2)


def test_a_lottery_has_the_mean_it_says() -> None:
    drawn = Lottery(clip=8.0).draw(100_000, 2)
    mean = np.mean([drawn.gradient(t, 0.0) for t in range(1, 100_001)])
    # Four standard errors of the mean of 2e5 draws that spread by 9 sqrt(p (1 - p)).
    assert mean == pytest.approx(Lottery().drift(8.0), abs=4 * 2.7 / np.sqrt(2e5))
    assert Lottery().drift() == pytest.approx(0.1)
    assert Lottery().drift(8.0) < 0 < Lottery().drift(9.5)
    assert drawn.regret(1, 1.0) == pytest.approx(0.2)


@pytest.mark.parametrize(("options", "said"), [
    ({"C": 1.0}, "C=1.0"), ({"d": -0.1}, "d=-0.1"), ({"clip": 0.0}, "clip=0.0"),
])  # fmt: skip
def test_lotteries_without_a_best_point_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Lottery(**options)
    with pytest.raises(ValueError, match="got 0 steps, 1 seeds"):
        Lottery().draw(0, 1)
