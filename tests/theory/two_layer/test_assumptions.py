"""Assumption 1, with the conditions that the paper leaves out."""

from __future__ import annotations

import pytest
import torch

from coarsegrad.theory.two_layer import assumption1, block_readout, own_pull, pull_range

ROWS = [
    ([[0.5, 0.0], [0.0, 0.5]], ()),
    ([[0.5, 0.5], [0.0, 0.0]], ("(1)",)),
    ([[0.5, 0.2], [0.0, 0.5]], ("(2)",)),
    ([[1.0, 0.0], [0.0, 0.5]], ("(3)",)),
    ([[0.5, 0.0, 0.0], [0.0, 0.5, -0.5]], ("(4)",)),
    ([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]], ("(5)",)),
    ([[2.0, 2.0], [0.0, 1.0]], ("(2)", "(3)")),
]


@pytest.mark.parametrize(("v", "broken"), ROWS)
def test_rows(v: list[list[float]], broken: tuple[str, ...]) -> None:
    found = assumption1(torch.tensor(v))
    assert tuple(text[:3] for text in found.broken) == broken
    assert found.holds == (not broken)


def test_the_place_is_named() -> None:
    v = block_readout(2, 6)
    v[1, 1], v[0, 4] = 0.25, 3
    assert assumption1(v).broken == (
        "(2) a unit works for one class only: unit 1, 4", "(3) v_ij < 1: unit 4",
    )  # fmt: skip


def test_remark_3_needs_v_not_negative() -> None:
    """Printed conditions (1) to (3) hold, and v~_ij > 0 where v_ij = 0: Remark 3 is false."""
    v = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, -0.5]])
    assert {text[:3] for text in assumption1(v).broken} == {"(4)"}
    assert own_pull(v)[0, 2] == 0.5
    assert v[0, 2] == 0
    assert pull_range(v)[2] != v.amax(0)[2]


def test_remark_3_under_all_conditions() -> None:
    v = block_readout(3, 6) * torch.tensor([1.0, 0.5, 1.5, 0.25, 1.0, 0.125])
    assert assumption1(v).holds
    assert torch.equal(pull_range(v), v.amax(0))
    assert torch.equal(own_pull(v), torch.where(v > 0, v, -v.amax(0)))
