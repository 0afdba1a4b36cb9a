from __future__ import annotations

import pytest
import torch

from coarsegrad.optim import BAMSProd, Bop, GroupSchedule, Split
from optim.composites import net
from optim.table import Case


def test_multiplies_the_values_at_the_start() -> None:
    opt = Bop([{"params": Case(Bop).weights()}, {"params": Case(Bop).weights(), "gamma": 0.5}],
              gamma=0.1, threshold=1e-2)  # fmt: skip
    schedule = GroupSchedule(opt, {"gamma": lambda s: 1 / (1 + s), "threshold": lambda s: 2.0**s})
    seen = []
    for _ in range(3):
        seen.append([(g["gamma"], g["threshold"]) for g in opt.param_groups])
        schedule.step()
    assert seen == [
        [(0.1 / (1 + s), 1e-2 * 2.0**s), (0.5 / (1 + s), 1e-2 * 2.0**s)] for s in range(3)
    ]
    assert [g["initial_gamma"] for g in opt.param_groups] == [0.1, 0.5]


def test_leaves_groups_without_the_key() -> None:
    opt = Split(net(), binary=(BAMSProd, {}), real=(torch.optim.Adam, {"lr": 1e-3}))
    schedule = GroupSchedule(opt, {"kappa": lambda s: s + 1})
    schedule.step()
    assert [group.get("kappa") for group in opt.param_groups] == [2.0, None]


def test_refuses_a_key_that_no_group_has() -> None:
    opt = Bop(Case(Bop).weights())
    with pytest.raises(ValueError, match=r"got 'treshold'; the groups of Bop have .*threshold"):
        GroupSchedule(opt, {"treshold": lambda s: 1.0})


def test_goes_on_from_a_checkpoint() -> None:
    first, second = Bop(Case(Bop).weights()), Bop(Case(Bop).weights(), threshold=5.0)
    functions = {"threshold": lambda s: 0.5**s}
    one, two = GroupSchedule(first, functions), GroupSchedule(second, functions)
    for _ in range(3):
        one.step()
    second.load_state_dict(first.state_dict())
    two.load_state_dict(one.state_dict())
    assert second.param_groups[0]["threshold"] == first.param_groups[0]["threshold"]
    for schedule in (one, two):
        schedule.step()
    assert second.param_groups[0]["threshold"] == first.param_groups[0]["threshold"] == 1e-8 / 16
