from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from coarsegrad.quantizers import Quantizer, Ternary
from coarsegrad.ste import ClippedIdentity, Identity

ROWS = [
    # quantizer, input, output, gradient of the output's sum
    # |x| <= Delta is 0, also where they are equal
    (Ternary(threshold=0.5), [-0.6, -0.5, -0.0, 0.0, 0.5, 0.6], [-1, 0, 0, 0, 0, 1], [1] * 6),
    (Ternary(threshold=0), [-1e-30, -0.0, 0.0, 1e-30], [-1, 0, 0, 1], [1] * 4),
    (Ternary(ClippedIdentity(), 0.5), [-1.5, 0.2, 0.9], [-1, 0, 1], [0, 1, 1]),
    # mean|x| = 1, Delta = 0.7
    (Ternary(), [-2.0, 0.5, -0.1, 1.4], [-1, 0, 0, 1], [1] * 4),
    # mean|x| where |x| > Delta: 3.4 / 2, a constant of the backward pass
    (Ternary(scale="tensor"), [-2.0, 0.5, -0.125, 1.5], [-1.75, 0, 0, 1.75], [1.75] * 4),
    # each row has a Delta of its own: 1.4 and 0.14
    (Ternary(scale="channel"), [[-3.0, 1.0], [0.25, 0.15]], [[-3, 0], [0.25 - 0.05, 0.2]],
     [[3, 3], [0.2, 0.2]]),
    # ... and one for both: 0.77
    (Ternary(scale="tensor"), [[-3.0, 1.0], [0.25, 0.15]], [[-2, 2], [0, 0]], [[2, 2], [2, 2]]),
    (Ternary(scale="learned", initial=3.0), [[-3.0, 1.0], [0.25, 0.15]], [[-3, 3], [0, 0]],
     [[3, 3], [3, 3]]),
    (Ternary(scale="learned", channels=2), [[-3.0, 1.0], [0.25, 0.15]], [[-1, 0], [1, 1]],
     [[1, 1], [1, 1]]),
    # nothing passes Delta: all levels are 0, the scale is 1
    (Ternary(scale="tensor"), [0.0, 0.0], [0, 0], [1, 1]),
    (Ternary(threshold=0.5, scale="channel"), [[0.5, 0.1], [1.0, 3.0]], [[0, 0], [2, 2]],
     [[1, 1], [2, 2]]),
]  # fmt: skip


@pytest.mark.parametrize(("quantizer", "inputs", "output", "gradient"), ROWS)
def test_rows(quantizer: Ternary, inputs: list, output: list, gradient: list) -> None:
    x = torch.tensor(inputs, requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    torch.testing.assert_close(y.detach(), torch.tensor(output, dtype=torch.float32))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor(gradient, dtype=torch.float32))


def test_rows_of_a_convolution_weight_have_their_own_threshold() -> None:
    weight = torch.tensor([-1.0, 0.1, 100.0, -90.0]).reshape(2, 2, 1, 1)
    levels, scale = Ternary(scale="channel").split(weight)
    assert levels.flatten().tolist() == [-1, 0, 1, -1]
    assert scale is not None
    assert scale.tolist() == [1, 95]


weights = arrays.arrays("float64", st.integers(1, 9), elements=st.integers(-20, 20).map(float))


@settings(max_examples=60, deadline=None)
@given(weights, st.sampled_from(["twn", 0.0, 3.0]))
def test_the_scale_is_the_least_squares_scale(array, threshold) -> None:
    w = torch.from_numpy(array)
    levels, scale = Ternary(threshold=threshold, scale="tensor").split(w)
    assert scale is not None
    assert torch.isfinite(scale)

    def loss(alpha: float) -> float:
        return float((w - alpha * levels).square().sum())

    for other in (0.0, 0.99 * float(scale), 1.01 * float(scale), 5.0):
        assert loss(float(scale)) <= loss(other) + 1e-9


def test_the_twn_threshold_is_near_the_best_one() -> None:
    # Li and Liu's claim: over normal weights, Delta = 0.7 mean|w| nearly minimises the distance.
    w = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def distance(threshold: float | str) -> float:
        return float((w - Ternary(threshold=threshold, scale="tensor")(w)).square().sum())  # type: ignore[arg-type]

    best = min(distance(delta) for delta in torch.linspace(0, 2, 81).tolist())
    assert best <= distance("twn") <= 1.01 * best
    assert distance("twn") < 0.6 * distance(0.0)


@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_float16_rounds_only_the_result(scale: str) -> None:
    # Sums of 5000 numbers around 50 overflow float16, and shares of them would be rounded.
    w = 50 * torch.randn(32, 5000, generator=torch.Generator().manual_seed(0)).half()
    quantizer = Ternary(threshold=30.0, scale=scale)  # type: ignore[arg-type]
    (_, got), (_, exact) = quantizer.split(w), quantizer.split(w.double())
    assert got is not None
    assert exact is not None
    assert torch.equal(got, exact.half())


@pytest.mark.parametrize("threshold", ["tw", -0.1, math.inf, math.nan, None, torch.tensor(0.5)])
def test_refuses_a_threshold(threshold: object) -> None:
    with pytest.raises(ValueError, match="needs threshold to be 'twn' or a finite number >= 0"):
        Ternary(threshold=threshold)  # type: ignore[arg-type]


def test_facts() -> None:
    quantizer = Ternary()
    assert isinstance(quantizer, Quantizer)
    assert (quantizer.levels, quantizer.bits, quantizer.ste) == ((-1.0, 0.0, 1.0), 2, Identity())
    facts = {
        (threshold, scale): (q.weights_only, q.data_dependent)
        for threshold, scale in itertools.product(["twn", 0.1], ["none", "tensor", "channel"])
        for q in [Ternary(threshold=threshold, scale=scale)]  # type: ignore[arg-type]
    }
    assert facts == {
        ("twn", "none"): (True, True),
        ("twn", "tensor"): (True, True),
        ("twn", "channel"): (True, True),
        (0.1, "none"): (False, False),
        (0.1, "tensor"): (False, True),
        (0.1, "channel"): (True, True),
    }
    assert "threshold=0.1" in repr(Ternary(threshold=0.1))
