from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from coarsegrad.deploy.fold import float_thresholds, integer_thresholds
from coarsegrad.errors import PackError


def not_negative(x: torch.Tensor) -> torch.Tensor:
    return ~(x < 0)


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
    assert found.t.tolist() == [2, 2, -9, 10, 10, -9]
    assert found.t.dtype == np.int16


def test_zero_gamma_with_zero_shift_is_positive() -> None:
    assert integer_thresholds(norm([0], [0], [0]), (1,), 5, "x", not_negative).t.tolist() == [-5]


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
    t = torch.from_numpy(found.t)
    flip = torch.from_numpy(found.flip)
    around = [t, torch.nextafter(t, torch.tensor(torch.inf)),
              torch.nextafter(t, torch.tensor(-torch.inf)), torch.zeros_like(t)]  # fmt: skip
    for s in around:
        s = s.clamp(-1e30, 1e30)
        says = torch.where(flip, s <= t, s >= t)
        assert torch.equal(says, ~(bn(s[None])[0] < 0))


def test_float_constants() -> None:
    found = float_thresholds(norm([0, 0], [0, 0], [1, -1]), (2,), not_negative)
    assert found.t.tolist() == [-np.inf, np.inf]


def test_a_tail_that_overflows_where_no_sum_comes() -> None:
    """Steep, then constant: inf * 0 is NaN, which is no sign of anything."""
    steep, flat = norm([20, 20], [0, 0], [0, 0]), norm([0, 0], [0, 0], [-1, 1])
    found = float_thresholds(lambda s: flat(steep(s)), (2,), not_negative)
    assert found.t.tolist() == [np.inf, -np.inf]


def test_a_tail_of_nan_is_refused() -> None:
    with pytest.raises(PackError, match="overflows float32"):
        float_thresholds(lambda s: s * torch.nan, (2,), not_negative)
    with pytest.raises(PackError, match="gives NaN"):
        integer_thresholds(lambda s: s * torch.nan, (2,), 3, "x", not_negative)


def test_not_monotone_is_refused() -> None:
    with pytest.raises(PackError, match="bad: what follows its sums is not monotone"):
        integer_thresholds(lambda s: s.square() - 4, (1,), 5, "bad", not_negative)
