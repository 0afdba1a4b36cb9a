"""What every optimizer refuses, and how it says so."""

from __future__ import annotations

import pytest
import torch

from coarsegrad.optim import ClippedSGD, NormalizedSGD
from optim.table import Case, give, gradients, rule_by_path, rules


@rule_by_path
def test_refuses_sparse_and_complex_gradients(case: Case, path: str) -> None:
    name = case.rule.__name__
    u = torch.nn.Parameter(torch.ones(2, 2))
    u.grad = torch.ones(2, 2).to_sparse()
    with pytest.raises(RuntimeError, match=f"{name} does not support sparse gradients"):
        case.build([u], path).step()
    w = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    w.grad = torch.zeros_like(w)
    opt = case.build([w], path)
    with pytest.raises(RuntimeError, match=f"{name} does not support complex gradients"):
        opt.step()
    assert not opt.state
    assert torch.equal(w.detach(), torch.ones(2, dtype=torch.complex64))


@rules
def test_a_refused_gradient_changes_nothing(case: Case) -> None:
    """The check is before the first change: not even the parameters before it have moved."""
    params = case.weights(shapes=[(4, 3), (5,), (2, 2)])
    before = [p.detach().clone() for p in params]
    opt = case.build([{"params": params[:1]}, {"params": params[1:]}])
    give(params, gradients(params, 1))
    params[2].grad = torch.ones(2, 2, dtype=torch.float64).to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse"):
        opt.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))


@rules
def test_paths_exclude_each_other(case: Case) -> None:
    by_norm = case.rule in (ClippedSGD, NormalizedSGD)
    for flags, message in [
        ({"fused": True, "foreach": True}, "`fused` and `foreach` cannot be `True` together"),
        ({"fused": True, "capturable": True}, "`fused` runs on the CPU and cannot be `capturable`"),
        ({"diagnostics": True, "capturable": True}, "`diagnostics` reads numbers in each step"),
    ]:
        if not (by_norm and "fused" in flags):
            with pytest.raises(RuntimeError, match=message):
                case.build(case.weights(), **{"foreach": None, "fused": None, **flags})


@rules
def test_torch_checks_the_parameters(case: Case) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        case.build([])
    with pytest.raises(TypeError, match="params argument given to the optimizer should be an"):
        case.build(torch.zeros(3))
    w = case.weights()
    with pytest.raises(ValueError, match="some parameters appear in more than one parameter group"):
        case.build([{"params": w}, {"params": w}])
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        case.build(w, learning_rate=0.1)


@rules
def test_loading_another_models_state_is_refused(case: Case) -> None:
    small, large = case.build(case.weights()), case.build(case.weights(shapes=[(2,)]))
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        large.load_state_dict(small.state_dict())
