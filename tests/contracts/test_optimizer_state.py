"""Checkpoints, copies, schedules and scalers: an optimizer goes on as if nothing had happened."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from coarsegrad.optim import Bop, Bop2ndOrder, GroupSchedule, Lookahead
from optim.composites import COMPOSITES, net
from optim.table import (
    RULES,
    Case,
    assert_same,
    give,
    gradients,
    parameters,
    rule_by_path,
    rules,
    run,
)

Make = Callable[[], Optimizer]


def _makers(dtype: torch.dtype = torch.float32) -> dict[str, Make]:
    """Everything that steps: each rule on each path, and the composites."""
    made: dict[str, Make] = {}
    for case in RULES:
        for path in case.paths:
            made[f"{case.rule.__name__}-{path}"] = lambda case=case, path=path: case.build(
                case.weights(dtype), path
            )
    for name, build in COMPOSITES.items():
        made[name] = lambda build=build: build(net(dtype))
    return made


makers = pytest.mark.parametrize("make", _makers().values(), ids=_makers())


def _schedules(opt: Optimizer) -> tuple[LRScheduler, GroupSchedule]:
    keys = [key for key in ("threshold", "kappa", "final_lr", "max_norm", "beta", "eps")
            if any(key in group for group in opt.param_groups)]  # fmt: skip
    return (
        LambdaLR(opt, lambda t: 1 / (1 + t)),
        GroupSchedule(opt, {key: lambda t: 0.9**t for key in keys[:2]}),
    )


def _go(opt: Optimizer, schedules: tuple[LRScheduler, GroupSchedule], steps: range) -> None:
    for step in steps:
        run(opt, parameters(opt), range(step, step + 1))
        for schedule in schedules:
            schedule.step()


def _through_a_file(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", _makers())
def test_resuming_in_mid_schedule_is_bit_exact(name: str, dtype: torch.dtype) -> None:
    make = _makers(dtype)[name]
    opt = make()
    schedules = _schedules(opt)
    _go(opt, schedules, range(7))
    saved = _through_a_file(
        {
            "weights": [p.detach() for p in parameters(opt)],
            "optimizer": opt.state_dict(),
            "schedules": [schedules[0].state_dict(), schedules[1].state_dict()],
        }
    )
    _go(opt, schedules, range(7, 14))

    resumed = make()
    again = _schedules(resumed)
    with torch.no_grad():
        for p, w in zip(parameters(resumed), saved["weights"], strict=True):
            p.copy_(w)
    resumed.load_state_dict(saved["optimizer"])
    for schedule, kept in zip(again, saved["schedules"], strict=True):
        schedule.load_state_dict(kept)
    _go(resumed, again, range(7, 14))
    assert_same(opt, resumed)
    for a, b in zip(opt.param_groups, resumed.param_groups, strict=True):
        # torch adds ``differentiable`` to every group on loading.
        assert {k: v for k, v in a.items() if k not in ("params", "differentiable")} == {
            k: v for k, v in b.items() if k not in ("params", "differentiable")
        }


@pytest.mark.parametrize("name", _makers())
def test_sixteen_bit_parameters_keep_float32_state(name: str) -> None:
    """torch casts loaded state to the parameter's dtype; a second moment would lose its digits."""
    opt, other = _makers(torch.bfloat16)[name](), _makers(torch.bfloat16)[name]()
    run(opt, parameters(opt), range(3))
    other.load_state_dict(_through_a_file(opt.state_dict()))
    for p, q in zip(parameters(opt), parameters(other), strict=True):
        assert q.dtype == torch.bfloat16
        for key, value in opt.state[p].items():
            if name.startswith("Split") and key.startswith("exp_avg"):
                continue  # torch's own Adam keeps its state in the parameter's dtype
            assert value.dtype == (torch.float64 if key == "bounds" else torch.float32), key
            assert other.state[q][key].dtype == value.dtype
            assert torch.equal(other.state[q][key], value)
            assert other.state[q][key] is not value


@makers
def test_a_loaded_state_is_not_shared(make: Make) -> None:
    opt, other = make(), make()
    run(opt, parameters(opt), range(2))
    other.load_state_dict(opt.state_dict())
    kept = [{k: v.clone() for k, v in opt.state[p].items()} for p in parameters(opt)]
    run(other, parameters(other), range(2, 5))
    for p, before in zip(parameters(opt), kept, strict=True):
        for key, value in before.items():
            assert torch.equal(opt.state[p][key], value), key


@makers
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))],
    ids=["deepcopy", "pickle"],
)
def test_copies_step_on(make: Make, copied: Callable[[Optimizer], Optimizer]) -> None:
    """The official AdaBound dies here: base_lrs lives on self."""
    opt = make()
    run(opt, parameters(opt), range(3))
    clone = copied(opt)
    run(opt, parameters(opt), range(3, 6))
    run(clone, parameters(clone), range(3, 6))
    assert_same(opt, clone)
    assert not {p.data_ptr() for p in parameters(opt) if p.numel()} & {
        p.data_ptr() for p in parameters(clone) if p.numel()
    }


@makers
def test_nothing_that_step_needs_lives_on_self(make: Make) -> None:
    opt = make()
    run(opt, parameters(opt), range(3))
    plain = set(vars(torch.optim.SGD([nn.Parameter(torch.zeros(1))])))
    assert set(vars(opt)) - plain <= {"rules"}
    kept = opt.__getstate__()
    assert kept.keys() <= {"defaults", "state", "param_groups", "rules"}


@makers
def test_groups_and_state_hold_plain_values(make: Make) -> None:
    """Numbers, words and tuples of them in groups; tensors in state: no strings, no callables."""
    opt = make()
    run(opt, parameters(opt), range(3))
    plain = (int, float, str, bool, type(None))
    for group in opt.param_groups:
        for key, value in group.items():
            if key in ("params", "param_names"):
                continue
            entries = value if isinstance(value, tuple) else (value,)
            assert all(isinstance(x, plain) for x in entries), key
    for state in opt.state.values():
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert "step" in state
        assert state["step"].dtype == torch.float32


@makers
def test_checkpoints_older_than_an_option_load(make: Make) -> None:
    opt = make()
    run(opt, parameters(opt), range(3))
    old = copy.deepcopy(opt.state_dict())
    for group in old["param_groups"]:
        if "amsgrad" in group:
            continue  # torch's own Adam
        for key in [key for key in group if key not in ("params", "binary", "lr", "betas")]:
            del group[key]
    other = make()
    other.load_state_dict(old)
    for key in make().param_groups[0]:
        assert key in other.param_groups[0] or key == "param_names", key
    run(other, parameters(other), range(3, 6))


@rules
@pytest.mark.parametrize("option", ["momentum", "per", "binary"])
def test_options_that_want_more_state_may_be_set_in_mid_training(case: Case, option: str) -> None:
    wanted = {"momentum": 0.9, "per": "tensor", "binary": True}[option]
    start = {"momentum": 0.0, "per": "tensor", "binary": False}[option]
    params = case.weights()
    opt = case.build(params)
    if option not in opt.param_groups[0]:
        return
    opt.param_groups[0][option] = start
    run(opt, params, range(3))
    opt.param_groups[0][option] = wanted
    run(opt, params, range(3, 6))
    assert all(bool(torch.isfinite(p).all()) for p in params)


@makers
def test_step_counts_in_a_float_of_the_default_dtype(make: Make) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        opt = make()
        run(opt, parameters(opt), range(2))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {opt.state[p]["step"].dtype for p in parameters(opt)} == {torch.float64}


@rule_by_path
def test_gradients_may_be_accumulated(case: Case, path: str) -> None:
    whole, parts = case.weights(), case.weights()
    one, four = case.build(whole, path), case.build(parts, path)
    for step in range(3):
        grads = gradients(whole, step)
        give(whole, [(g + g) + (g + g) for g in grads])
        one.step()
        four.zero_grad()
        for _ in range(4):
            sum((p * g).sum() for p, g in zip(parts, grads, strict=True)).backward()  # type: ignore[union-attr]
        four.step()
    assert_same(one, four, rtol=1e-12, atol=1e-12)


@makers
def test_grad_scaler(make: Make) -> None:
    """Unscaled gradients step as without a scaler; an infinite one changes nothing at all."""
    plain, scaled = make(), make()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=1000)
    for step in range(3):
        run(plain, parameters(plain), range(step, step + 1))
        params = parameters(scaled)
        scaler.scale(torch.ones(()))
        give(params, [g * 2.0**8 for g in gradients(params, step)])
        scaler.step(scaled)
        scaler.update()
    assert_same(plain, scaled)
    grads = gradients(parameters(scaled), 3)
    grads[0].view(-1)[0] = torch.inf
    give(parameters(scaled), grads)
    scaler.step(scaled)
    scaler.update()
    assert_same(plain, scaled)
    assert scaler.get_scale() == 2.0**7


@makers
def test_schedulers_of_torch(make: Make) -> None:
    opt = make()
    for schedule in (
        CosineAnnealingLR(opt, 4),
        OneCycleLR(opt, 0.5, total_steps=4, cycle_momentum=_has_momentum(opt)),
        torch.optim.lr_scheduler.StepLR(opt, 1),
    ):
        for step in range(2):
            run(opt, parameters(opt), range(step, step + 1))
            schedule.step()
    for p in parameters(opt):
        assert bool(torch.isfinite(p).all())


def _has_momentum(opt: Optimizer) -> bool:
    return all("betas" in group or "momentum" in group for group in opt.param_groups) and (
        "betas" in opt.defaults or "momentum" in opt.defaults
    )


@rule_by_path
def test_lr_may_be_a_tensor(case: Case, path: str) -> None:
    params, others = case.weights(), case.weights()
    number = case.build(params, path)
    lr = torch.tensor(number.param_groups[0]["lr"], dtype=torch.float64)
    if path == "foreach":
        with pytest.raises(ValueError, match="lr as a Tensor is not supported for capturable=F"):
            case.build(others, path, lr=lr)
        return
    tensor = case.build(others, path, lr=lr)
    run(number, params, range(4))
    run(tensor, others, range(4))
    assert_same(number, tensor, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        case.build(others, lr=torch.ones(2))


@pytest.mark.parametrize("rule", [Bop, Bop2ndOrder])
def test_flipping_rules_stay_binary_under_lookahead(rule: type[Optimizer]) -> None:
    case = next(case for case in RULES if case.rule is rule)
    params = case.weights(torch.float32)
    opt = Lookahead(case.build(params), k=2)
    run(opt, params, range(12))
    assert all(bool((p.detach().abs() == 1).all()) for p in params)
