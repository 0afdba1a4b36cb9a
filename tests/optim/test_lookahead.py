from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from coarsegrad.optim import BAMSProd, Bop, Lookahead
from optim.table import Case, give, gradients, run
from reference import bop
from reference.lookahead import Reference


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (3, 0.8), (5, 1.0)])
def test_is_the_twin_around_sgd(k: int, alpha: float) -> None:
    (w,) = Case(BAMSProd).weights(shapes=[(4, 3)])
    opt = Lookahead(torch.optim.SGD([w], lr=0.1), k=k, alpha=alpha)
    twin = Reference(w.detach().numpy().copy(), lambda theta, g: theta - 0.1 * g, k, alpha)
    for step in range(14):
        grads = gradients([w], step)
        give([w], grads)
        opt.step()
        twin.step(grads[0].numpy())
        np.testing.assert_allclose(w.detach().numpy(), twin.theta, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(opt.state[w]["slow"], twin.phi, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_is_the_twin_around_bop(alpha: float) -> None:
    """alpha = 1/2 makes ties: slow weights from +1 to -1 meet at 0, and the weight is kept."""
    (w,) = Case(Bop).weights(shapes=[(4, 3)])
    opt = Lookahead(Bop([w], gamma=0.5, threshold=0.0), k=2, alpha=alpha)
    inner = bop.Reference(w.detach().numpy().copy(), 0.5, 0.0)

    def step(theta: Any, g: Any) -> Any:
        inner.w = theta
        inner.step(g)
        return inner.w

    twin = Reference(w.detach().numpy().copy(), step, 2, alpha, flips=True)
    ties = 0
    for number in range(30):
        grads = gradients([w], number)
        give([w], grads)
        opt.step()
        twin.step(grads[0].numpy())
        ties += int((opt.state[w]["slow"] == 0).sum())
        np.testing.assert_array_equal(w.detach().numpy(), twin.theta)
    assert (ties > 0) == (alpha == 0.5)


def test_slow_weights_lie_in_the_box_of_the_fast_ones() -> None:
    params = Case(BAMSProd).weights(torch.float32)
    opt = Lookahead(BAMSProd(params, lr=3.0), k=2, alpha=0.7)
    run(opt, params, range(10))
    for p in params:
        assert bool((opt.state[p]["slow"].abs() <= 1).all())
        assert bool((p.detach().abs() <= 1).all())


def test_a_checkpoint_of_the_inner_rule_loads() -> None:
    params, others = Case(BAMSProd).weights(), Case(BAMSProd).weights()
    inner, opt = BAMSProd(params), Lookahead(BAMSProd(others), k=4)
    run(inner, params, range(3))
    opt.load_state_dict(inner.state_dict())
    assert opt.param_groups[0]["lookahead_k"] == 4
    run(opt, others, range(3, 8))
    assert all("slow" in opt.state[p] for p in others)


def test_groups_added_later_have_slow_weights() -> None:
    first, second = Case(BAMSProd).weights(), Case(BAMSProd).weights()
    opt = Lookahead(BAMSProd(first), k=2)
    opt.add_param_group({"params": second})
    run(opt, first + second, range(4))
    assert all("slow" in opt.state[p] for p in second)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"k": 0}, r"Invalid k value: 0 \(must be an integer >= 1\)"),
        ({"k": 2.5}, "Invalid k value: 2.5"),
        ({"alpha": 0.0}, r"Invalid alpha value: 0.0 \(must be in \(0, 1\]\)"),
        ({"alpha": 1.5}, "Invalid alpha value: 1.5"),
    ],
    ids=str,
)
def test_refuses(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lookahead(BAMSProd(Case(BAMSProd).weights()), **bad)
