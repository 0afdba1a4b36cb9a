"""Assumption 1 on the fixed second layer, with the conditions that the paper leaves out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Assumption1(NamedTuple):
    """Whether Assumption 1 holds, and which conditions are broken, in words."""

    holds: bool
    broken: tuple[str, ...]


def assumption1(v: Tensor) -> Assumption1:
    """Check the conditions on V, (n, k), for Theorem 3.1 (Long, Yin, Xin 2020, sec. 2.2).

    As printed: (1) every class has a unit with v_ij > 0; (2) such a unit has no positive weight
    to another class; (3) every v_ij < 1. Needed besides: (4) V >= 0, without which Remark 3 and
    the proof are false, since a column (0, -1/2) gives class 1 an own unit without a positive
    weight; (5) no column of zeros, a unit that nothing trains.

    >>> assumption1(torch.tensor([[0.5, 0.0], [0.0, 0.5]])).holds
    True
    >>> assumption1(torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.5, -0.5]])).broken
    ('(4) V >= 0: unit 2',)
    """
    positive = v > 0
    conditions = (
        ("(1) a unit with v_ij > 0 for each class: class", ~positive.any(1)),
        ("(2) a unit works for one class only: unit", positive.sum(0) > 1),
        ("(3) v_ij < 1: unit", (v >= 1).any(0)),
        ("(4) V >= 0: unit", (v < 0).any(0)),
        ("(5) no column of zeros: unit", (v == 0).all(0)),
    )
    broken = tuple(
        f"{text} {', '.join(str(int(i)) for i in torch.nonzero(where))}"
        for text, where in conditions
        if where.any()
    )
    return Assumption1(not broken, broken)


def pull_range(v: Tensor) -> Tensor:
    """Return v^_j = max over pairs of classes of v_ij - v_rj, (k,) (Lemma 5.1).

    >>> pull_range(torch.tensor([[0.5, 0.0], [0.0, 0.25]])).tolist()
    [0.5, 0.25]
    """
    return v.amax(0) - v.amin(0)


def own_pull(v: Tensor) -> Tensor:
    """Return v~_ij = v_ij - max over the other classes of v_rj, (n, k) (Lemma 5.3).

    >>> own_pull(torch.tensor([[0.5, 0.0], [0.0, 0.25]])).tolist()
    [[0.5, -0.25], [-0.5, 0.25]]
    """
    others = torch.stack([v[torch.arange(len(v)) != i].amax(0) for i in range(len(v))])
    return v - others
