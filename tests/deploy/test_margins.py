"""How far from a threshold a float may be for its bit to be left open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coarsegrad.deploy.margins import MARGIN, cancelled, gain, near_threshold
from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Op,
    Program,
    Relu,
    Sign,
    Threshold,
    pack_bits,
)


def near(*ops: Op, t: float, fed: float, drift: float = 0.0, terms: float = 0.0, **tensors) -> bool:
    """Whether the one bit of (1, 1, 1) floats or bits ``fed``, through ``ops``, is left open."""
    named = {f"a.{key}": np.asarray(value, np.float32) for key, value in tensors.items()}
    named["t.threshold"] = np.array([t], np.float32)
    program = Program((1, 1, 1), (*ops, Threshold("t")), named)
    found = near_threshold(program, 0, len(program.ops), torch.full((1, 1, 1, 1), fed), 0.0,
                           {"a": np.array([terms])}, drift)  # fmt: skip
    return bool(found.item())


ONE = Conv("a", (1, 1, 1, 1))
ROWS = [
    # a float that nothing has rounded leaves nothing open, unless it is off by itself
    (near(t=1, fed=1), False),
    (near(t=1, fed=1.5, drift=0.6), True),
    (near(t=1, fed=1.5, drift=0.4), False),
    # a layer's sum is off by its products, and by its weights times what its input is off by
    (near(ONE, t=3, fed=1, weight=[[[[3]]]]), True),
    (near(ONE, t=3 + 2e-6, fed=1, weight=[[[[3]]]]), False),
    (near(ONE, t=4, fed=1, weight=[[[[-3]]]], drift=2.4), True),
    (near(ONE, t=4, fed=1, weight=[[[[-3]]]], drift=2.3), False),
    # an affine by the terms that its shift is made of
    (near(Affine("a"), t=1 + 1e-4, fed=1, affine=[[1], [0]], terms=1000), True),
    (near(Affine("a"), t=1 + 1e-4, fed=1, affine=[[1], [0]]), False),
    (near(Affine("a"), t=-2, fed=1, affine=[[-1], [0]], drift=1.1), True),
    # below a ReLU all is 0
    (near(Relu(), t=-0.5, fed=-1, drift=0.6), False),
    (near(Relu(), t=0.5, fed=1, drift=0.6), True),
    (near(AvgPool((1, 1)), t=2, fed=2), True),
    (near(AvgPool((1, 1)), t=2.1, fed=2), False),
    (near(MaxPool((1, 1)), t=2, fed=2, drift=0.1), True),
]


@pytest.mark.parametrize(("got", "expected"), ROWS, ids=range(len(ROWS)))
def test_rows(got: bool, expected: bool) -> None:
    assert got is expected


def test_a_sign_cuts_at_zero_and_pools_behind_it_collect() -> None:
    x = torch.tensor([[[[-0.1, 3.0], [2.0, 2.0]]]])
    program = Program((1, 2, 2), (Sign(), MaxPool((1, 2)), Flatten()), {})
    found = near_threshold(program, 0, 3, x, 0.0, {}, drift=0.2)
    assert found.tolist() == [[True, False]]


def test_bits_of_zero_and_one_are_read_as_such() -> None:
    """0.1 * (0 or 1): a bit of -1 leaves a float sum of 0, which no rounding moves."""
    tensors = {"a.weight": np.array([[0.1]], np.float32), "t.threshold": np.array([0], np.float32)}
    for low, open_ in ((0, False), (-1, False)):
        program = Program((1,), (Sign(), Linear("a", (1, 1), low=low), Threshold("t")), tensors)
        found = near_threshold(program, 1, 3, torch.full((1, 1), -1.0), 0.0, {})
        assert bool(found) is open_
    tensors["t.threshold"][0] = -0.1
    for low, open_ in ((0, False), (-1, True)):
        program = Program((1,), (Sign(), Linear("a", (1, 1), low=low), Threshold("t")), tensors)
        found = near_threshold(program, 1, 3, torch.full((1, 1), -1.0), 0.0, {})
        assert bool(found) is open_


def test_exact_sums_leave_nothing_open() -> None:
    tensors = {"a.weight": pack_bits(np.ones(4)), "t.threshold": np.array([2], np.int16)}
    program = Program((4,), (Sign(), Linear("a", (1, 4)), Threshold("t")), tensors)
    fed = torch.tensor([[1.0, 1, 1, -1]])
    assert not near_threshold(program, 1, 3, fed, 0.0, {}).any()


def test_gain_and_cancellation() -> None:
    tensors = {
        "a.weight": np.array([[1, -2], [3, 0.5]], np.float32),
        "a.affine": np.array([[2, -4], [10, 0]], np.float32),
        "b.affine": np.array([[-0.5, 0.25], [0, 3]], np.float32),
    }
    ops = (Linear("a", (2, 2)), Affine("a"), Relu(), Affine("b"))
    program = Program((2,), ops, tensors)
    assert gain(program, 0, 4) == 3.5 * 4 * 0.5
    assert gain(program, 2, 3) == 1
    assert cancelled(program, 0, 2, {"a": np.array([1.0, 70.0])}) == 70
    assert cancelled(program, 0, 4, {"a": np.array([1.0, 70.0])}) == 70 * 0.5 + 3
    assert cancelled(program, 2, 3, {}) == 0
    assert MARGIN < 1e-6
