from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from coarsegrad.optim import Bop, Bop2ndOrder
from optim.table import Case, give, gradients, run

both = pytest.mark.parametrize("rule", [Bop, Bop2ndOrder])


# weight, mean gradient, threshold, weight after one step with gamma = 1
ROWS = [
    (1.0, 0.5, 0.1, -1.0),
    (-1.0, 0.5, 0.1, -1.0),
    (1.0, -0.5, 0.1, 1.0),
    (-1.0, -0.5, 0.1, 1.0),
    (1.0, 0.05, 0.1, 1.0),
    (-1.0, -0.25, 0.25, -1.0),  # a tie, which the published code sets to +1
    (1.0, 0.25, 0.25, 1.0),
    (-1.0, 0.0, 0.0, -1.0),
    (-1.0, math.nan, 0.1, -1.0),
]


@pytest.mark.parametrize(("weight", "gradient", "threshold", "after"), ROWS)
@pytest.mark.parametrize("path", ["single", "foreach", "traced", "fused"])
def test_rows(weight: float, gradient: float, threshold: float, after: float, path: str) -> None:
    w = torch.nn.Parameter(torch.tensor([weight]))
    w.grad = torch.tensor([gradient])
    Case(Bop, {"gamma": 1.0, "threshold": threshold}).build([w], path).step()
    assert w.item() == after


@pytest.mark.parametrize("path", ["single", "foreach", "traced"])
def test_an_infinite_gradient_alone_in_m_is_nan_as_in_torch_lerp(path: str) -> None:
    w = torch.nn.Parameter(torch.ones(2))
    w.grad = torch.tensor([math.inf, 1.0])
    opt = Case(Bop, {"gamma": 1.0}).build([w], path)
    opt.step()
    assert opt.state[w]["m"].isnan().tolist() == [True, False]
    assert w.tolist() == [1.0, -1.0]


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.5])
def test_unbiased_is_biased_with_another_threshold(threshold: float) -> None:
    """tau' = tau gamma / sqrt(sigma), up to eps: constant factors and no new dynamics."""
    gamma, sigma = 0.05, 0.01
    ends = []
    for unbiased in (True, False):
        params = Case(Bop).weights()
        tau = threshold if unbiased else threshold * gamma / math.sqrt(sigma)
        opt = Bop2ndOrder(params, gamma=gamma, sigma=sigma, threshold=tau, eps=1e-300,
                          unbiased=unbiased)  # fmt: skip
        flips = []
        for step in range(80):
            before = [p.detach().clone() for p in params]
            run(opt, params, range(step, step + 1))
            flips.append([torch.ne(p, q) for p, q in zip(params, before, strict=True)])
        ends.append(flips)
        assert sum(int(mask.sum()) for masks in flips for mask in masks) > 5
    for one, other in zip(*ends, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@both
def test_a_schedule_of_lr_is_one_of_gamma(rule: Any) -> None:
    params, others = Case(rule).weights(), Case(rule).weights()
    by_lr = rule(params, lr=1.0, gamma=0.2, threshold=0.1)
    by_gamma = rule(others, lr=1.0, gamma=0.2, threshold=0.1)
    for step in range(20):
        by_lr.param_groups[0]["lr"] = 0.9**step
        by_gamma.param_groups[0]["gamma"] = 0.2 * 0.9**step
        run(by_lr, params, range(step, step + 1))
        run(by_gamma, others, range(step, step + 1))
    assert all(torch.equal(a, b) for a, b in zip(params, others, strict=True))


def test_the_second_order_rule_at_rate_zero_keeps_weights() -> None:
    params = Case(Bop).weights()
    opt = Bop2ndOrder(params, gamma=0.5, threshold=0.0, unbiased=True)
    run(opt, params, range(3))
    opt.param_groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    run(opt, params, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"lr": -1.0}, r"Invalid learning rate: -1.0 \(must be >= 0\)"),
    ({"gamma": 0.0}, r"Invalid gamma value: 0.0 \(must be in \(0, 1\]\)"),
    ({"gamma": 1.5}, "Invalid gamma value: 1.5"),
    ({"threshold": -1e-9}, r"Invalid threshold value: -1e-09 \(must be >= 0\)"),
    ({"threshold": math.nan}, "Invalid threshold value: nan"),
    ({"lr": 3.0, "gamma": 0.5}, r"Invalid learning rate: 3.0 \(lr \* gamma is the share"),
]
BAD_2ND: list[tuple[dict[str, Any], str]] = [
    ({"sigma": 0.0}, r"Invalid sigma value: 0.0 \(must be in \(0, 1\]\)"),
    ({"sigma": 2.0}, "Invalid sigma value: 2.0"),
    ({"eps": 0.0}, r"Invalid epsilon value: 0.0 \(must be > 0\)"),
]


@pytest.mark.parametrize(
    ("rule", "bad", "message"),
    [(Bop, *row) for row in BAD] + [(Bop2ndOrder, *row) for row in BAD + BAD_2ND],
    ids=str,
)
def test_refuses(rule: Any, bad: dict[str, Any], message: str) -> None:
    weights = Case(rule).weights()
    with pytest.raises(ValueError, match=message):
        rule(weights, **bad)
    with pytest.raises(ValueError, match=message):
        rule([{"params": weights, **bad}])


@both
@pytest.mark.parametrize("value", [0.0, 0.5, -2.0, math.nan])
def test_refuses_weights_that_are_not_binary(rule: Any, value: float) -> None:
    good, bad = Case(Bop).weights(shapes=[(2, 2)] * 2)
    with torch.no_grad():
        bad[1, 0] = value
    message = rf"{rule.__name__} needs weights that are -1 or \+1, but NAME of shape \[2, 2\]"
    with pytest.raises(ValueError, match=message.replace("NAME", "conv.weight")):
        rule([("first", good), ("conv.weight", bad)])
    with pytest.raises(ValueError, match=message.replace("NAME", "parameter 1")):
        rule([good, bad])
    opt = rule([good])
    with pytest.raises(ValueError, match=message.replace("NAME", "parameter 0")):
        opt.add_param_group({"params": [bad]})
    assert len(opt.param_groups) == 1


@both
def test_refuses_weights_loaded_after_it_was_made(rule: Any) -> None:
    (w,) = Case(Bop).weights(shapes=[(3,)])
    opt = rule([("w", w)])
    with torch.no_grad():
        w.fill_(0.5)
    give([w], gradients([w], 1))
    with pytest.raises(ValueError, match=r"but w of shape \[3\] holds 0.5; call coarsegrad.nn.bin"):
        opt.step()
