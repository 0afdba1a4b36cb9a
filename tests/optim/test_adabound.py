from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from coarsegrad.optim import AdaBound, AMSBound
from coarsegrad.optim.adabound import rate_bounds
from optim.table import Case, give, gradients, run
from reference.adabound import Reference

both = pytest.mark.parametrize("rule", [AdaBound, AMSBound])


def test_the_bounds_of_the_authors_code() -> None:
    """At the defaults L(1) = 1.0e-4 and U(1) = 100.1; both close on final_lr."""
    group = {"base_lr": 1e-3, "gamma": 1e-3, "final_lr": 0.1}
    low, high = rate_bounds(group, 1e-3, 1)
    assert low == pytest.approx(0.1 - 0.1 / 1.001)
    assert low == pytest.approx(1.0e-4, rel=2e-3)
    assert high == pytest.approx(100.1)
    low, high = rate_bounds(group, 1e-3, 1e9)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert rate_bounds(group, 5e-4, 1)[1] == pytest.approx(50.05)
    for t in range(1, 50):
        low, high = rate_bounds(group, 1e-3, t)
        assert 0 < low < 0.1 < high


@both
def test_a_scheduler_moves_final_lr_too(rule: type[AdaBound]) -> None:
    case = Case(rule, {"lr": 0.1, "gamma": 0.2})
    (w,) = case.weights(shapes=[(4, 3)])
    twin = Reference(w.detach().numpy().copy(), 0.1, gamma=0.2, amsbound=rule is AMSBound)
    opt = case.build([w])
    for step in range(30):
        twin.alpha = opt.param_groups[0]["lr"] = 0.1 * 0.9**step
        grads = gradients([w], step)
        give([w], grads)
        opt.step()
        twin.step(grads[0].numpy())
    np.testing.assert_allclose(w.detach().numpy(), twin.x, rtol=1e-10, atol=1e-12)


@both
def test_the_base_rate_is_each_groups_own(rule: type[AdaBound]) -> None:
    case = Case(rule)
    opt = rule([{"params": case.weights(), "lr": 0.5}], lr=0.1)
    opt.add_param_group({"params": case.weights()})
    opt.add_param_group({"params": case.weights(), "lr": 0.2})
    assert [group["base_lr"] for group in opt.param_groups] == [0.5, 0.1, 0.2]


@both
def test_resuming_does_not_depend_on_the_constructors_rate(rule: type[AdaBound]) -> None:
    """The official code reads final_lr's base from the new optimizer: 1.00e-4 or 1.16e-4."""
    case = Case(rule)
    params, others = case.weights(), case.weights()
    opt, other = rule(params, lr=1e-3), rule(others, lr=7e-2)
    run(opt, params, range(5))
    other.load_state_dict(opt.state_dict())
    with torch.no_grad():
        for p, q in zip(others, params, strict=True):
            p.copy_(q)
    run(opt, params, range(5, 9))
    run(other, others, range(5, 9))
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


@both
def test_rate_zero_at_the_start(rule: type[AdaBound]) -> None:
    """lr / base_lr would be 0 / 0; with a rate later, final_lr holds as it is."""
    params = Case(rule).weights()
    opt = rule(params, lr=0.0)
    run(opt, params, range(1, 3))
    before = params[0].detach().clone()
    opt.param_groups[0]["lr"] = 1e-3
    run(opt, params, range(3, 5))
    assert bool(torch.isfinite(params[0]).all())
    assert not torch.equal(params[0], before)


def test_amsbound_remembers_a_large_gradient() -> None:
    ends = []
    for rule in (AdaBound, AMSBound):
        (w,) = Case(rule).weights(shapes=[(3,)])
        start = w.detach().clone()
        opt = rule([w], lr=1e-2, betas=(0.0, 0.5), final_lr=1.0, gamma=1e-9)
        for size in [100.0, *[1.0] * 12]:
            give([w], [torch.full((3,), size)])
            opt.step()
        ends.append(float((w - start).detach().abs().max()))
    assert ends[1] < ends[0] / 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"lr": -1.0}, r"Invalid learning rate: -1.0 \(must be >= 0\)"),
    ({"lr": math.inf}, "Invalid learning rate: inf"),
    ({"betas": (1.0, 0.9)}, r"Invalid beta parameter at index 0: 1.0 \(must be in \[0, 1\)\)"),
    ({"betas": (0.9, -0.1)}, "Invalid beta parameter at index 1: -0.1"),
    ({"final_lr": -0.1}, "Invalid final learning rate: -0.1"),
    ({"gamma": 0.0}, r"Invalid gamma value: 0.0 \(must be > 0\)"),
    ({"eps": 0.0}, r"Invalid epsilon value: 0.0 \(must be > 0\)"),
    ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
    ({"box": (1.0, 1.0)}, r"Invalid box value: \(1.0, 1.0\)"),
]


@both
@pytest.mark.parametrize(("bad", "message"), BAD, ids=str)
def test_refuses(rule: type[AdaBound], bad: dict[str, Any], message: str) -> None:
    weights = Case(rule).weights()
    with pytest.raises(ValueError, match=message):
        rule(weights, **bad)
    with pytest.raises(ValueError, match=message):
        rule([{"params": weights, **bad}])
    opt = rule(weights)
    with pytest.raises(ValueError, match=message):
        opt.add_param_group({"params": Case(rule).weights(), **bad})
    assert len(opt.param_groups) == 1
