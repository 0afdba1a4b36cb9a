"""How far from a threshold a float may be for its bit to be left open."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coarsegrad.deploy.margins import MARGIN, Possible, cancelled, gain, possible_levels
from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Levels,
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
    found = possible_levels(program, 0, len(program.ops), torch.full((1, 1, 1, 1), fed), 0.0,
                            {"a": np.array([terms])}, drift).open  # fmt: skip
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
    """A window is open if its largest bit is: another that is +1 for certain closes it."""
    x = torch.tensor([[[[-0.1, -3.0], [2.0, 2.0], [-0.1, 3.0]]]])
    program = Program((1, 3, 2), (Sign(), MaxPool((1, 2)), Flatten()), {})
    found = possible_levels(program, 0, 3, x, 0.0, {}, drift=0.2)
    assert found.open.tolist() == [[True, False, False]]


def levels_of(fed: float, drift: float, *, flip: bool = False) -> tuple[int, int]:
    """The least and the most level of thresholds 0, 1 and 4 for a float."""
    rows = np.array([[0], [1], [4]], np.float32)
    tensors = {"t.threshold": rows[::-1].copy() if flip else rows}
    if flip:
        tensors["t.flip"] = np.array([1], np.uint8)
    program = Program((1,), (Threshold("t", 2),), tensors)
    found = possible_levels(program, 0, 1, torch.full((1, 1), fed), 0.0, {}, drift)
    assert found.open.item() is (found.least != found.most).item()
    return found.least.item(), found.most.item()


def test_levels_that_an_interval_leaves() -> None:
    assert levels_of(2, 0.5) == (2, 2)
    assert levels_of(1, 0) == (2, 2)
    assert levels_of(1, 0.1) == (1, 2)
    assert levels_of(2, 1.5) == (1, 2)
    assert levels_of(2, 9) == (0, 3)
    # In a flipped channel a smaller float is a higher level.
    assert levels_of(2, 0.5, flip=True) == (1, 1)
    assert levels_of(1, 0, flip=True) == (2, 2)
    assert levels_of(1, 0.1, flip=True) == (1, 2)
    assert levels_of(-1, 1.5, flip=True) == (2, 3)


def test_only_levels_within_are_allowed() -> None:
    found = Possible(np.array([1, 1, 2]), np.array([3, 1, 2]))
    assert found.allows(np.array([2, 0, 2])).tolist() == [True, False, True]
    assert found.allows(np.array([4, 1, 3])).tolist() == [False, True, False]


def test_cells_are_read_as_integers_or_through_their_table() -> None:
    rows = np.array([[0.5], [1.5], [2.5]], np.float32)
    for table in (False, True):
        ops = [Linear("a", (1, 1), low=-1 if table else 0), Threshold("t")]
        tensors = {"x.threshold": rows, "a.weight": np.array([[0.1]], np.float32),
                   "x.levels": np.array([0, 1, 5, 7], np.float32),
                   "t.threshold": np.array([0.1 * (7 if table else 3)], np.float32)}  # fmt: skip
        between = [Levels("x")] if table else []
        if not table:
            del tensors["x.levels"]
        program = Program((1,), (Threshold("x", 2), *between, *ops), tensors)
        stop = len(program.ops)
        for cell, open_ in ((3.0, True), (2.0, False), (0.0, False)):
            found = possible_levels(program, 1, stop, torch.full((1, 1), cell), 0.0, {})
            assert bool(found.open) is open_


def test_bits_of_zero_and_one_are_read_as_such() -> None:
    """0.1 * (0 or 1): a bit of -1 leaves a float sum of 0, which no rounding moves."""
    tensors = {"a.weight": np.array([[0.1]], np.float32), "t.threshold": np.array([0], np.float32)}
    for low, open_ in ((0, False), (-1, False)):
        program = Program((1,), (Sign(), Linear("a", (1, 1), low=low), Threshold("t")), tensors)
        found = possible_levels(program, 1, 3, torch.full((1, 1), -1.0), 0.0, {})
        assert bool(found.open) is open_
    tensors["t.threshold"][0] = -0.1
    for low, open_ in ((0, False), (-1, True)):
        program = Program((1,), (Sign(), Linear("a", (1, 1), low=low), Threshold("t")), tensors)
        found = possible_levels(program, 1, 3, torch.full((1, 1), -1.0), 0.0, {})
        assert bool(found.open) is open_


def test_exact_sums_leave_nothing_open() -> None:
    tensors = {"a.weight": pack_bits(np.ones(4)), "t.threshold": np.array([2], np.int16)}
    program = Program((4,), (Sign(), Linear("a", (1, 4)), Threshold("t")), tensors)
    fed = torch.tensor([[1.0, 1, 1, -1]])
    assert not possible_levels(program, 1, 3, fed, 0.0, {}).open.any()


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
