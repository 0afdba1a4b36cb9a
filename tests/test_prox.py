"""Each map against brute-force minimisation, and against certificates where points are many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from numpy.typing import NDArray
from torch import Tensor

from coarsegrad import prox
from coarsegrad.errors import ArgumentError

Array = NDArray[np.float64]
Gain = Callable[[Array, Array, Array, Array], Array]


def _gains() -> dict[str, Gain]:
    """(1/2)(u - x)^2 + r P(u) minus its value at u = 0, for u, x >= 0: no digits are lost at 0."""
    return {
        "l0": lambda u, x, r, a: u * (u / 2 - x) + r * (u != 0),
        "l1": lambda u, x, r, a: u * (u / 2 - x + r),
        "tl1": lambda u, x, r, a: u * (u / 2 - x + r * (a + 1) / (a + u)),
    }


GAINS = _gains()


def brute(name: str, x: Array, r: Array, a: Array) -> Array:
    """The minimiser over u in [0, x] for x >= 0, by grids that zoom in on the best point."""
    low, high = np.zeros_like(x), x.copy()
    for points in (4001, *[101] * 7):
        u = low[:, None] + np.linspace(0, 1, points) * (high - low)[:, None]
        best = GAINS[name](u, x[:, None], r[:, None], a[:, None]).argmin(1)
        at = np.arange(len(x))
        low, high = u[at, np.maximum(best - 1, 0)], u[at, np.minimum(best + 1, points - 1)]
        found: Array = u[at, best]
    # l0 jumps at 0, where no grid on a continuous function helps; 0 and x are its candidates.
    return np.where(GAINS[name](x, x, r, a) < 0, x, 0.0) if name == "l0" else found


def mapped(name: str, x: Array, r: Array, a: Array) -> Array:
    call = {
        "l0": lambda x, r, a: prox.l0(x, r),
        "l1": lambda x, r, a: prox.l1(x, r),
        "tl1": lambda x, r, a: torch.stack(
            [prox.transformed_l1(x[i], float(r[i]), float(a[i])) for i in range(len(x))]
        ),
    }[name]
    return call(torch.from_numpy(x), torch.from_numpy(r), torch.from_numpy(a)).numpy()


def agree(name: str, x: Array, r: Array, a: Array) -> None:
    ours, theirs = mapped(name, x, r, a), brute(name, x, r, a)
    gain, best = GAINS[name](ours, x, r, a), GAINS[name](theirs, x, r, a)
    # Neither is better than the other, and they differ only where 0 is as good as the jump.
    assert np.abs(gain - best).max() <= 1e-12 * (1 + x.max()) ** 2
    tied = np.abs(best) <= 1e-12 * (1 + x.max()) ** 2
    assert np.where(tied & ((ours == 0) | (theirs < 1e-6)), 0, np.abs(ours - theirs)).max() <= 1e-6


@pytest.mark.parametrize("name", GAINS)
def test_is_the_minimiser_on_random_points(name: str) -> None:
    draw = np.random.default_rng(0)
    x, r = draw.uniform(0, 5, 400), 10 ** draw.uniform(-4, 0.7, 400)
    agree(name, x, r, draw.choice([0.01, 0.1, 1.0, 5.0, 100.0], 400))


def critical(a: float) -> float:
    return a * a / (2 * (a + 1))


def threshold(r: float, a: float) -> float:
    below = r <= critical(a)
    return r * (a + 1) / a if below else math.sqrt(2 * r * (a + 1)) - a / 2


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 10), st.floats(0, 5), st.floats(0.01, 100))
@example(0.5, critical(1.0), 1.0)
@example(threshold(critical(1.0), 1.0), critical(1.0), 1.0)
@example(threshold(0.1, 1.0), 0.1, 1.0)
@example(threshold(0.8, 1.0), 0.8, 1.0)
@example(2.0, 2.0, 1.0)
@example(1.0, 0.0, 1.0)
def test_is_the_minimiser_at_ties_and_critical_weights(x: float, r: float, a: float) -> None:
    for name in GAINS:
        agree(name, np.array([x]), np.array([r]), np.array([a]))
        agree(name, np.array([threshold(r, a)]), np.array([r]), np.array([a]))
        agree(name, np.array([x]), np.array([critical(a)]), np.array([a]))


def test_of_two_minimisers_zero_comes_back() -> None:
    x = torch.tensor([2.0, -2.0, 2.0 + 1e-6], dtype=torch.float64)
    assert prox.l0(x, 2.0).tolist() == [0.0, 0.0, 2.0 + 1e-6]
    t = threshold(2.0, 1.0)  # sqrt(8) - 1/2; from there on the map starts at sqrt(8) - 1
    x = torch.tensor([t, -t, t + 1e-9], dtype=torch.float64)
    after = prox.transformed_l1(x, 2.0, a=1.0).tolist()
    assert after[:2] == [0.0, 0.0]
    assert after[2] == pytest.approx(math.sqrt(8) - 1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transformed_l1_has_the_limits_l0_and_l1(dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 201, dtype=dtype) + 0.011  # no ties
    for r in (0.01, 0.3, 2.0):
        near_l0 = (prox.transformed_l1(x, r, a=1e-7) - prox.l0(x, r)).abs().max()
        near_l1 = (prox.transformed_l1(x, r, a=1e7) - prox.l1(x, r)).abs().max()
        assert max(near_l0, near_l1) < 3e-6


def test_transformed_l1_is_the_printed_formula() -> None:
    x, r, a = torch.linspace(2, 4, 50, dtype=torch.float64), 0.7, 1.3
    phi = (1 - 27 * r * a * (a + 1) / (2 * (a + x) ** 3)).arccos()
    printed = 2 / 3 * (a + x) * (phi / 3).cos() - 2 * a / 3 + x / 3
    torch.testing.assert_close(prox.transformed_l1(x, r, a), printed, rtol=1e-13, atol=1e-13)


points = st.lists(st.floats(-20, 20), min_size=1, max_size=7)


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The gap <x - p, p' - p> of the worst p' bounds |p - argmin|^2: 1e-12 stands for 1e-6.


@settings(max_examples=60, deadline=None)
@given(points, st.floats(0.01, 10))
@example([1.0, 1.0, 1.0], 1.0)
@example([0.0, 0.0], 3.0)
def test_simplex_is_the_nearest_point(values: list[float], total: float) -> None:
    x = tensor(values)
    p = prox.simplex(x, total)
    assert bool((p >= 0).all())
    assert float(p.sum()) == pytest.approx(total, abs=1e-12)
    worst = total * (x - p).max() - (x - p) @ p
    assert float(worst) <= 1e-12 * (1 + total) * 20


@settings(max_examples=60, deadline=None)
@given(points, st.floats(0, 10))
@example([3.0, 4.0], 5.0)
@example([0.0, 0.0], 0.0)
def test_ball_is_the_nearest_point(values: list[float], radius: float) -> None:
    x = tensor(values)
    p = prox.ball(x, radius)
    assert float(p.norm()) <= radius * (1 + 1e-12)
    assert float(radius * (x - p).norm() - (x - p) @ p) <= 1e-11
    if x.norm() <= radius:
        assert torch.equal(p, x)


@settings(max_examples=60, deadline=None)
@given(points, st.floats(0, 10))
@example([3.0, 4.0], 5.0)
@example([0.0, 0.0], 0.0)
def test_group_l2_meets_the_optimality_condition(values: list[float], r: float) -> None:
    """x - u is a subgradient of r |u|_2: at most r long, and along u where u is not 0."""
    x = tensor(values)
    u = prox.group_l2(x, r, dim=0)
    assert float((x - u).norm()) <= r * (1 + 1e-12) + 1e-12
    assert float(r * u.norm() - (x - u) @ u) <= 1e-11


def test_group_l2_takes_channels_of_a_filter_and_elements_of_a_vector() -> None:
    x = torch.randn(3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = torch.stack([prox.group_l2(row.flatten(), 2.7, dim=0).view(2, 2, 2) for row in x])
    torch.testing.assert_close(prox.group_l2(x, 2.7), whole)
    assert 0 < int((whole.flatten(1) == 0).all(1).sum()) < 3
    torch.testing.assert_close(prox.group_l2(x[0, 0, 0], 0.3), prox.l1(x[0, 0, 0], 0.3))
    torch.testing.assert_close(
        prox.group_l2(x, torch.tensor([0.0, 2.7, 99.0]).view(3, 1, 1, 1)),
        torch.stack([x[0], whole[1], torch.zeros_like(x[2])]),
    )


@settings(max_examples=60, deadline=None)
@given(points, st.floats(-5, 5), st.floats(0, 5))
def test_box_is_the_nearest_point(values: list[float], low: float, width: float) -> None:
    x, high = tensor(values), low + width
    grid = torch.linspace(0, 1, 20001, dtype=torch.float64) * (high - low) + low
    nearest = grid[(x[:, None] - grid).abs().argmin(1)]
    assert float((prox.box(x, low, high) - nearest).abs().max()) <= 5 / 20000 + 1e-12
    inside = (x >= low) & (x <= high)
    assert torch.equal(prox.box(x, low, high)[inside], x[inside])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.7]), min_size=4, max_size=4),
       st.integers(1, 4))  # fmt: skip
def test_n_m_is_the_nearest_pattern(values: list[float], n: int) -> None:
    x = tensor(values)
    p = prox.n_m(x, n, 4)
    left = min(
        float(sum(x[i] ** 2 for i in range(4) if i not in kept))
        for kept in itertools.combinations(range(4), n)
    )
    assert float((x - p).square().sum()) == left
    assert int((p != 0).sum()) <= n
    assert torch.equal(p[p != 0], x[p != 0])


def test_n_m_runs_along_a_dimension_and_keeps_the_first_of_equals() -> None:
    x = torch.ones(4, 3)
    x[3] = -2
    assert prox.n_m(x, 1, 4, dim=0).tolist() == [[0] * 3] * 3 + [[-2] * 3]
    assert prox.n_m(torch.ones(2, 4), 2, 4).tolist() == [[1, 1, 0, 0]] * 2


def test_huge_values_do_not_overflow() -> None:
    x = torch.tensor([3e30, 4e30])
    torch.testing.assert_close(prox.ball(x), torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(prox.group_l2(x, 1.0, dim=0), x)
    torch.testing.assert_close(prox.simplex(x), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(prox.transformed_l1(x, 1.0), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: prox.l1(x, -0.1), r"l1 needs r >= 0, .*got -0.1"),
        (lambda x: prox.l0(x, math.nan), r"l0 needs r >= 0, .*got nan"),
        (lambda x: prox.transformed_l1(x, torch.tensor(-1.0)), "transformed_l1 needs r >= 0"),
        (lambda x: prox.l1(x, torch.ones(3)), r"broadcasts to \(2, 4\), got \(3,\)"),
        (lambda x: prox.l1(x, torch.ones(5, 1, 1)), r"broadcasts to \(2, 4\), got \(5, 1, 1\)"),
        (lambda x: prox.transformed_l1(x, 1.0, a=0.0), "needs a finite a > 0, got 0.0"),
        (lambda x: prox.transformed_l1(x, 1.0, a=math.inf), "needs a finite a > 0, got inf"),
        (lambda x: prox.group_l2(x, -1.0), "group_l2 needs r >= 0"),
        (lambda x: prox.box(x, 1.0, -1.0), r"box needs low <= high, got low = 1.0, high = -1.0"),
        (lambda x: prox.box(x, torch.zeros(3), 1.0), r"bounds of a shape that broadcasts"),
        (lambda x: prox.ball(x, -1.0), r"ball needs a finite radius >= 0, got -1.0"),
        (lambda x: prox.simplex(x, 0.0), r"simplex needs a finite total > 0, got 0.0"),
        (lambda x: prox.simplex(x[:, :0]), r"one coordinate or more along dim -1, .*\(2, 0\)"),
        (lambda x: prox.n_m(x, 2, 3), r"m to divide the size of dim -1, got m = 3 .*\(2, 4\)"),
        (lambda x: prox.n_m(x, 5, 4), r"integers 1 <= n <= m, got n = 5, m = 4"),
        (lambda x: prox.n_m(x, 0, 4), r"integers 1 <= n <= m, got n = 0"),
        (lambda x: prox.l1(x.int(), 1.0), r"l1 needs a tensor of a floating dtype, got torch.int"),
        (lambda x: prox.n_m(x.int(), 2, 4), "n_m needs a tensor of a floating dtype"),
        (lambda x: prox.l0([1.0], 1.0), "l0 needs a tensor of a floating dtype, got list"),
    ],
)
def test_refuses(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call(torch.ones(2, 4))
