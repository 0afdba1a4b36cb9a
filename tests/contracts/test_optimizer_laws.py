"""Laws of every step, on every path: where weights, bounds and gradients are after it."""

from __future__ import annotations

import copy
import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from coarsegrad.optim import AMSBound, BAMSProd, Bop2ndOrder, NormalizedSGD
from optim.table import (
    CASES,
    Case,
    assert_same,
    case_by_path,
    give,
    gradients,
    parameters,
    rows,
    rule_by_path,
    rules,
    run,
)

LATENT = [case for case in CASES if case.rule is BAMSProd]


@case_by_path
def test_every_iterate_lies_in_the_box(case: Case, path: str) -> None:
    """Large rates, so that the box is met; a rule without one must be able to leave it."""
    more: dict[str, Any] = {} if case.flips else {"lr": 3.0}
    params = case.weights(torch.float32)
    opt = case.build(params, path, **more)
    farthest = 0.0
    low, high = case.box or (-math.inf, math.inf)
    for step in range(12):
        run(opt, params, range(step, step + 1))
        for p in params:
            assert bool(((p >= low) & (p <= high)).all())
            farthest = max(farthest, float(p.detach().abs().sum()))
            if case.flips:
                assert bool((p.detach().abs() == 1).all())
    assert case.box is not None or farthest > 1


@rows([case for case in CASES if case.rule in (BAMSProd, AMSBound)])
def test_vhat_never_falls(case: Case, path: str) -> None:
    """The maximum is over the raw v: dividing by 1 - beta2^t first would undo it."""
    params = case.weights(torch.float32)
    opt = case.build(params, path)
    before = [torch.zeros_like(p) for p in params]
    fell = False
    for step in range(12):
        grads = [g * (10.0 if step == 0 else 0.1) for g in gradients(params, step + 1)]
        give(params, grads)
        opt.step()
        after = [opt.state[p]["vhat"].clone() for p in params]
        fell |= any(bool((b < a).any()) for a, b in zip(before, after, strict=True))
        before = after
    assert fell == (case.options.get("vhat") == "average")


@pytest.mark.parametrize("path", ["single", "foreach", "traced", "fused"])
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(LATENT),
    st.lists(st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 30.0, 1e6, math.inf]), max_size=15),
    st.integers(0, 99),
)
@pytest.mark.filterwarnings("ignore:BAMSProd. .*above the bound:UserWarning")
def test_intervals_are_ordered_and_nested(
    path: str, case: Case, scales: list[float], seed: int
) -> None:
    """Whatever the gradients: none, tiny, huge, overflowing."""
    params = case.weights(torch.float32)
    opt = case.build(params, path)
    last = {p: (torch.zeros(()), torch.full((), math.inf)) for p in params}
    for step, scale in enumerate(scales):
        grads = gradients(params, step, seed)
        if math.isinf(scale):
            for g in grads:
                g.view(-1)[:1] = scale
        give(params, [g if math.isinf(scale) else g * scale for g in grads])
        opt.step()
        for p in params:
            low, high = opt.state[p]["bounds"][2:]
            assert bool(((last[p][0] <= low) & (low <= high) & (high <= last[p][1])).all())
            assert bool((low >= 0).all())
            last[p] = low.clone(), high.clone()


@rule_by_path
def test_grad_is_not_written(case: Case, path: str) -> None:
    for maximize in (False, True):
        params = case.weights(torch.float32)
        opt = case.build(params, path, maximize=maximize)
        for step in range(3):
            give(params, gradients(params, step))
            kept = [(p.grad, p.grad.clone(), p.grad._version) for p in params if p.grad is not None]
            opt.step()
            for p, (grad, copied, version) in zip(params, kept, strict=True):
                assert p.grad is grad
                assert torch.equal(grad, copied)
                assert grad._version == version


@rule_by_path
def test_without_gradients_nothing_happens(case: Case, path: str) -> None:
    params = case.weights()
    before = copy.deepcopy(params)
    opt = case.build(params, path)
    opt.step()
    assert not opt.state
    give(params[:1], [torch.ones(4, 3)])
    opt.step()
    assert list(opt.state) == params[:1]
    assert all(torch.equal(a, b) for a, b in zip(before[1:], params[1:], strict=True))


@case_by_path
def test_zero_gradients_move_nothing(case: Case, path: str) -> None:
    """As a distributed checkpoint's first step has them; with decay it also sets lr to 0."""
    params = case.weights()
    before = copy.deepcopy(params)
    opt = case.build(params, path)
    if case.options.get("weight_decay"):
        opt.param_groups[0]["lr"] = 0.0
    for _ in range(3):
        give(params, [torch.zeros_like(p) for p in params])
        opt.step()
    assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))


@rule_by_path
def test_rate_zero_moves_nothing(case: Case, path: str) -> None:
    """A scheduler's warm-up begins there; nothing may be divided by it."""
    params = case.weights()
    before = copy.deepcopy(params)
    opt = case.build(params, path, lr=0.0)
    run(opt, params, range(3))
    assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))
    opt.param_groups[0]["lr"] = 0.5
    run(opt, params, range(3, 40))
    assert all(bool(torch.isfinite(p).all()) for p in params)
    assert not torch.equal(before[0], params[0])


@rule_by_path
def test_steps_are_seen_by_autograd(case: Case, path: str) -> None:
    """Edits through .data would leave the version at 0 and stale graphs undetected."""
    params = case.weights(torch.float32)
    opt = case.build(params, path)
    run(opt, params, range(1, 3))
    assert all(p._version > 0 for p in params)
    assert all(p.requires_grad and p.is_leaf for p in params)


@rule_by_path
def test_closure(case: Case, path: str) -> None:
    params = case.weights()
    opt = case.build(params, path)
    calls = []

    def closure() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        opt.zero_grad()
        loss = sum((p.square().sum() for p in params), torch.zeros(()))
        loss.backward()
        return loss

    with torch.no_grad():
        loss = opt.step(closure)
    assert calls == [True]
    assert loss is not None
    assert float(loss.detach()) > 0
    assert opt.step() is None
    assert opt.state[params[0]]["step"] == 2


@rule_by_path
def test_strides_and_shapes(case: Case, path: str) -> None:
    params = case.weights(shapes=[(4, 3), (3, 2, 2, 2), (), (0, 3), (1, 1)])
    strides = [p.stride() for p in params]
    opt = case.build(params, path)
    run(opt, params, range(1, 4))
    assert [p.stride() for p in params] == strides
    for p in params:
        for key, value in opt.state[p].items():
            if key not in ("step", "bounds"):
                assert (value.shape, value.stride()) == (p.shape, p.stride()), key


@rule_by_path
def test_a_group_at_rest_stays(case: Case, path: str) -> None:
    moving, still = case.weights(), case.weights()
    opt = case.build([{"params": moving}, {"params": still, "lr": 0.0}, {"params": []}], path)
    run(opt, moving + still, range(1, 30))
    assert not torch.equal(moving[0], still[0])
    assert all(torch.equal(a, b) for a, b in zip(case.weights(), still, strict=True))


@rule_by_path
def test_groups_added_later_step(case: Case, path: str) -> None:
    """AdaBound's list parallel to param_groups never steps them."""
    first, second = case.weights(shapes=[(4, 3)]), case.weights(shapes=[(5,)])
    opt = case.build(first, path)
    run(opt, first, range(1, 3))
    opt.add_param_group({"params": second})
    alone = case.weights(shapes=[(5,)])
    other = case.build(alone, path)
    for group in opt.param_groups + other.param_groups:
        if "norm" in group:
            group["norm"] = "tensor"
    for step in range(1, 30):
        give(first, gradients(first, step))
        give(second, gradients(second, step))
        give(alone, gradients(alone, step))
        opt.step()
        other.step()
    torch.testing.assert_close(second[0], alone[0], rtol=0, atol=0)


def _scaled(case: Case, scale: float) -> dict[str, Any] | None:
    """The options with which a loss ``scale`` times larger takes the same path, if there are."""
    options = case.options
    if case.rule is BAMSProd:
        relative = options.get("cstar", "relative") in ("relative", "grad")
        return {"eps": 1e-12} if relative else {"eps": 1e-12, **_unit(options, scale)}
    if case.rule is Bop2ndOrder:
        return {"eps": 1e-14}
    if case.rule.__name__ == "Bop":
        return {"threshold": options["threshold"] * scale}
    if case.rule is NormalizedSGD:
        return {"beta": scale}
    return None


def _unit(options: dict[str, Any], scale: float) -> dict[str, Any]:
    if options["cstar"] == "constant":
        return {"c": options.get("c", 1.0) * scale**2}
    # The printed c* has the unit f^{3/2}: no Lipschitz constant in f / w can make up for it,
    # but a number that grows with scale^{3/2} can.
    return {"L_inf": options.get("L_inf", 1.0) * scale**1.5}


EQUIVARIANT = [case for case in CASES if _scaled(case, 1.0) is not None]


@pytest.mark.parametrize("case", EQUIVARIANT, ids=str)
def test_the_scale_of_the_loss_cancels(case: Case) -> None:
    ends = []
    for scale in (1.0, 100.0):
        params = case.weights()
        opt = case.build(params, **(_scaled(case, scale) or {}))
        for step in range(30):
            give(params, [g * scale for g in gradients(params, step)])
            opt.step()
        ends.append(params)
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=0, atol=1e-7)


def test_the_literal_limit_does_not_cancel_the_scale() -> None:
    case = Case(BAMSProd, {"cstar": "literal", "eps": 1e-12})
    ends = []
    for scale in (1.0, 100.0):
        params = case.weights()
        opt = case.build(params)
        for step in range(30):
            give(params, [g * scale for g in gradients(params, step)])
            opt.step()
        ends.append(params[0].detach())
    assert float((ends[0] - ends[1]).abs().max()) > 1e-3


@rules
def test_hooks_and_profiler_come_from_torch(case: Case) -> None:
    params = case.weights()
    opt = case.build(params)
    seen: list[str] = []
    opt.register_step_pre_hook(lambda *_: seen.append("pre"))
    opt.register_step_post_hook(lambda *_: seen.append("post"))
    with torch.profiler.profile() as profile:
        run(opt, params, range(1))
    assert seen == ["pre", "post"]
    assert f"Optimizer.step#{case.rule.__name__}.step" in {e.key for e in profile.key_averages()}


@rules
def test_named_parameters(case: Case) -> None:
    params, plain = case.weights(), case.weights()
    named, unnamed = case.build([(f"p{i}", p) for i, p in enumerate(params)]), case.build(plain)
    run(named, params, range(4))
    run(unnamed, plain, range(4))
    assert named.param_groups[0]["param_names"] == [f"p{i}" for i in range(5)]
    assert_same(named, unnamed)
    assert parameters(named) == params
