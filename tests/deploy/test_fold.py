from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from coarsegrad.deploy.fold import Thresholds, float_thresholds, integer_thresholds
from coarsegrad.errors import PackError


def not_negative(x: torch.Tensor) -> torch.Tensor:
    return (~(x < 0)).long()


def positive(x: torch.Tensor) -> torch.Tensor:
    return (x > 0).long()


def norm(gamma: list[float], mean: list[float], beta: list[float]) -> nn.BatchNorm1d:
    bn = nn.BatchNorm1d(len(gamma)).eval().requires_grad_(False)
    bn.weight.copy_(torch.tensor(gamma))
    bn.bias.copy_(torch.tensor(beta))
    assert bn.running_mean is not None
    bn.running_mean.copy_(torch.tensor(mean))
    return bn


def test_integer_rows() -> None:
    """Exact zeros are positive on both slopes; constants are reached by all sums or by none."""
    bn = norm([1, -1, 0, 0, 1, 1], [2, 2, 0, 0, 99, -99], [0, 0, 0.5, -0.5, 0, 0])
    found = integer_thresholds(bn, (6,), 9, "x", not_negative)
    assert found.flip.tolist() == [False, True, False, False, False, False]
    assert found.t[0].tolist() == [2, 2, -9, 10, 10, -9]
    assert found.t.dtype == np.int16


def test_zero_gamma_with_zero_shift_is_positive() -> None:
    assert integer_thresholds(norm([0], [0], [0]), (1,), 5, "x", not_negative).t[0].tolist() == [-5]


def test_large_sums_take_int32() -> None:
    assert (
        integer_thresholds(norm([1], [0], [0]), (1,), 32_766, "x", not_negative).t.dtype == np.int16
    )
    assert (
        integer_thresholds(norm([1], [0], [0]), (1,), 32_767, "x", not_negative).t.dtype == np.int32
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-3, 3, width=32), st.integers(-9, 9), st.floats(-2, 2, width=32)),
        min_size=1,
        max_size=12,
    )
)
def test_float_thresholds_split_exactly(rows: list[tuple[float, int, float]]) -> None:
    gamma, mean, beta = (list(map(float, column)) for column in zip(*rows, strict=True))
    bn = norm(gamma, mean, beta)
    found = float_thresholds(bn, (len(rows),), not_negative)
    t = torch.from_numpy(found.t[0])
    flip = torch.from_numpy(found.flip)
    around = [t, torch.nextafter(t, torch.tensor(torch.inf)),
              torch.nextafter(t, torch.tensor(-torch.inf)), torch.zeros_like(t)]  # fmt: skip
    for s in around:
        s = s.clamp(-1e30, 1e30)
        says = torch.where(flip, s <= t, s >= t)
        assert torch.equal(says, ~(bn(s[None])[0] < 0))


def test_zero_falls_as_the_quantizer_has_it() -> None:
    """q(0) = 0 moves an exact zero to the lower level, on integers and on floats."""
    bn = norm([1, -1], [2, 2], [0, 0])
    assert integer_thresholds(bn, (2,), 9, "x", not_negative).t[0].tolist() == [2, 2]
    assert integer_thresholds(bn, (2,), 9, "x", positive).t[0].tolist() == [3, 1]
    found = float_thresholds(bn, (2,), positive)
    two = torch.tensor(2.0)
    assert found.t[0, 0] == torch.nextafter(two, torch.tensor(3.0))
    assert found.t[0, 1] == torch.nextafter(two, torch.tensor(0.0))
    identity = float_thresholds(nn.Identity(), (1,), positive).t
    assert identity.view(np.int32).tolist() == [[1]]  # the smallest float above 0


def test_a_relu_inside_is_flat_and_still_monotone() -> None:
    relu, bn = nn.ReLU(), norm([1, -1, 1], [2, 2, -1], [0, 0, 0])
    found = integer_thresholds(lambda s: bn(relu(s)), (3,), 5, "x", not_negative)
    assert found.flip.tolist() == [False, True, False]
    assert found.t[0].tolist() == [2, 2, -5]
    found = float_thresholds(lambda s: bn(relu(s)), (3,), not_negative)
    assert found.t[0].tolist() == [2, 2, -np.inf]


def test_float_constants() -> None:
    found = float_thresholds(norm([0, 0], [0, 0], [1, -1]), (2,), not_negative)
    assert found.t[0].tolist() == [-np.inf, np.inf]


def test_a_tail_that_overflows_where_no_sum_comes() -> None:
    """Steep, then constant: inf * 0 is NaN, which is no sign of anything."""
    steep, flat = norm([20, 20], [0, 0], [0, 0]), norm([0, 0], [0, 0], [-1, 1])
    found = float_thresholds(lambda s: flat(steep(s)), (2,), not_negative)
    assert found.t[0].tolist() == [np.inf, -np.inf]


def test_a_tail_of_nan_is_refused() -> None:
    with pytest.raises(PackError, match="overflows float32"):
        float_thresholds(lambda s: s * torch.nan, (2,), not_negative)
    with pytest.raises(PackError, match="gives NaN"):
        integer_thresholds(lambda s: s * torch.nan, (2,), 3, "x", not_negative)


def four(x: torch.Tensor) -> torch.Tensor:
    """Levels 0 .. 3 by the paper's ceil, with a step of 0.4."""
    return torch.ceil(x / 0.4).clamp(0, 3).long()


ROWS = norm([1, -1, 0, 0, 0.01, -7, 300], [2, 2, 0, 0, 99, -5, 1], [0, 0, 0.5, -0.5, 0, 0.3, 9])


def check_levels(found: Thresholds, sums: torch.Tensor) -> None:
    """Counting the thresholds that a sum passes gives the level of what follows the sum."""
    t, flip = torch.from_numpy(found.t), torch.from_numpy(found.flip)
    s = sums[:, None].expand(-1, len(flip))
    passed = torch.where(flip, s[:, None] <= t, s[:, None] >= t)
    assert torch.equal(passed.sum(1), four(ROWS(s.contiguous())))


@pytest.mark.parametrize("tried", [1 << 17, 0], ids=["each integer", "bisection"])
def test_levels_of_integers(tried: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coarsegrad.deploy.fold._TRIED", tried)
    monkeypatch.setattr("coarsegrad.deploy.fold._CHUNK", 40)
    found = integer_thresholds(ROWS, (7,), 30, "x", four, 4)
    assert (found.t.shape, found.t.dtype) == ((3, 7), np.int16)
    check_levels(found, torch.arange(-30.0, 31))
    # Levels that every sum reaches, and that none does.
    assert found.t[:, 2].tolist() == [-30, -30, 31]
    assert found.t[:, 3].tolist() == [31, 31, 31]


def test_both_ways_give_the_same_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = integer_thresholds(ROWS, (7,), 200, "x", four, 4)
    monkeypatch.setattr("coarsegrad.deploy.fold._TRIED", 0)
    found = integer_thresholds(ROWS, (7,), 200, "x", four, 4)
    assert np.array_equal(tried.t, found.t)
    assert np.array_equal(tried.flip, found.flip)
    assert found.flip.tolist() == [False, True, False, False, False, True, False]


def test_levels_of_floats() -> None:
    found = float_thresholds(ROWS, (7,), four, 4)
    assert found.t.shape == (3, 7)
    t = torch.from_numpy(found.t).flatten()
    near = [torch.nextafter(t, torch.tensor(end)) for end in (-torch.inf, torch.inf)]
    sums = torch.cat([t, *near, torch.linspace(-300, 300, 500)]).clamp(-1e30, 1e30)
    check_levels(found, sums)
    assert found.t[:, 2].tolist() == [-np.inf, -np.inf, np.inf]


def test_large_ranges_are_bisected_not_tried() -> None:
    calls = []

    def tail(s: torch.Tensor) -> torch.Tensor:
        calls.append(len(s))
        return s / 1000

    found = integer_thresholds(tail, (1,), 2**24, "x", four, 4)
    assert sum(calls) < 100
    assert found.t[:, 0].tolist() == [1, 401, 801]
    assert found.t.dtype == np.int32


def test_not_monotone_between_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coarsegrad.deploy.fold._CHUNK", 1)
    with pytest.raises(PackError, match="bad: what follows its sums is not monotone"):
        integer_thresholds(lambda s: s.square() - 4, (1,), 5, "bad", not_negative)


def test_not_monotone_is_refused() -> None:
    with pytest.raises(PackError, match="bad: what follows its sums is not monotone"):
        integer_thresholds(lambda s: s.square() - 4, (1,), 5, "bad", not_negative)
