"""Every way to run a step does the same step, and it is the one of the float64 twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from coarsegrad.optim import BAMSProd, ClippedSGD, NormalizedSGD
from optim.table import (
    PATHS,
    RULES,
    Case,
    assert_same,
    case_by_other_path,
    case_by_path,
    cases,
    give,
    gradients,
    parameters,
    rule_by_path,
    run,
)

EPS32 = float(np.finfo(np.float32).eps)


@cases
@pytest.mark.parametrize("path", ["single", "foreach", "traced"])
def test_float64_is_the_twin(case: Case, path: str) -> None:
    params = case.weights(shapes=[(4, 3), (3, 2, 2, 2), (5,), ()])
    twin = case.twin(params)
    opt = case.build(params, path)
    for step in range(25):
        grads = gradients(params, step)
        give(params, grads)
        opt.step()
        twin.step(grads)
        for p, w in zip(params, twin.weights, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-10, atol=1e-12)


@case_by_path
def test_float32_is_the_twin_to_a_few_ulp(case: Case, path: str) -> None:
    """The law of the native pass, about an ulp a step; the eager paths obey it as well."""
    params = case.weights(torch.float32, [(8, 9), (3, 2, 2, 2), (5,)])
    twin = case.twin(params)
    opt = case.build(params, path)
    for step in range(12):
        grads = [g.float() for g in gradients(params, step)]
        give(params, grads)
        opt.step()
        twin.step(grads)
    way = 12 * float(opt.param_groups[0]["lr"])
    for p, w in zip(params, twin.weights, strict=True):
        tolerance = 16 * EPS32 * max(1, way, float(np.abs(w).max()))
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=0, atol=tolerance)


@case_by_other_path
def test_parameters_and_state_agree(case: Case, path: str) -> None:
    optimizers = []
    for name in ("single", path):
        params = case.weights()
        opt = case.build(params, name)
        run(opt, params, range(6))
        for p in params:
            p.grad = None
        opt.step()
        run(opt, params[1:], range(6, 10))
        optimizers.append(opt)
    assert_same(*optimizers, rtol=1e-12, atol=1e-12)


POISON = {
    "nan": [math.nan],
    "inf": [math.inf],
    "both infinities, then numbers": [math.inf, -math.inf, 1.0],
    "an overflowing square": [3e19],
    "numbers beside the overflow of a square": [1e25, 1.0],
    "subnormal": [1e-40, -1e-40],
}


@rule_by_path
@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_nan_and_infinity_reach_the_same_places(case: Case, path: str, poison: list[float]) -> None:
    optimizers = []
    for name in ("single", path):
        params = case.weights(torch.float32, [(8, 9), (5,)])
        opt = case.build(params, name)
        run(opt, params, range(2))
        for step, value in enumerate(poison, 2):
            grads = gradients(params, step)
            grads[0][1, 2] = grads[0][7, 8] = value
            give(params, grads)
            opt.step()
        run(opt, params, range(8, 10))
        optimizers.append(opt)
    for p, q in zip(*map(parameters, optimizers), strict=True):
        assert torch.equal(p.isnan(), q.isnan())
    assert_same(*optimizers, rtol=1e-5, atol=1e-6)


@rule_by_path
def test_a_nan_is_not_lost(case: Case, path: str) -> None:
    """maximum, minimum and clamp must hand it on, whatever the order of their arguments."""
    params = case.weights(torch.float32, [(8, 9)])
    opt = case.build(params, path)
    run(opt, params, range(3))
    (grad,) = gradients(params, 3)
    grad[1, 2] = grad[7, 8] = math.nan
    give(params, [grad])
    opt.step()
    moments = [x for x in opt.state[params[0]].values() if x.shape == (8, 9)]
    for x in moments + ([params[0].detach()] if not case.flips else []):
        assert bool(x[1, 2].isnan())
        assert bool(x[7, 8].isnan())
    if case.flips:
        assert bool(params[0].detach().abs().eq(1).all())
    # A rule by element harms no other element.
    spared = case.rule not in (ClippedSGD, NormalizedSGD)
    assert int(params[0].isnan().sum()) == (0 if case.flips else 2 if spared else 72)


@rule_by_path
def test_mixed_dtypes_in_a_group(case: Case, path: str) -> None:
    """Each parameter is updated once, with its own dtype: timm#2750 decayed once a partition."""
    more: dict[str, Any] = {} if case.flips else {"weight_decay": 0.1}
    if case.rule in (ClippedSGD, NormalizedSGD):
        more["norm"] = "tensor"
    kinds = [torch.float32, torch.bfloat16, torch.float64, torch.float32]
    together = [case.weights(dtype, [(4, 3)])[0] for dtype in kinds]
    opt = case.build(together, path, **more)
    alone = [case.weights(dtype, [(4, 3)])[0] for dtype in kinds]
    singles = [case.build([p], **more) for p in alone]
    for step in range(5):
        (g,) = gradients(together[:1], step)
        give(together, [g] * 4)
        opt.step()
        for p, one in zip(alone, singles, strict=True):
            give([p], [g])
            one.step()
    for p, q, one in zip(together, alone, singles, strict=True):
        assert p.dtype == q.dtype
        tolerance = 1e-2 if p.dtype == torch.bfloat16 else 2e-6
        torch.testing.assert_close(p.detach(), q.detach(), rtol=tolerance, atol=tolerance)
        for key, value in one.state[q].items():
            assert opt.state[p][key].dtype == value.dtype


@rule_by_path
def test_maximize_is_minimising_the_negative(case: Case, path: str) -> None:
    ups, downs = case.weights(), case.weights()
    up, down = case.build(ups, path, maximize=True), case.build(downs, path)
    for step in range(6):
        grads = gradients(ups, step)
        give(ups, grads)
        give(downs, [-g for g in grads])
        up.step()
        down.step()
    assert_same(up, down)


def test_the_table_names_paths_that_differ() -> None:
    """The options of a path must reach the code they name."""
    taken = {}
    for path in PATHS:
        case = next(case for case in RULES if case.rule is BAMSProd)
        opt = case.build(case.weights(), path)
        ran: list[str] = []
        opt._run = lambda ops, batch, shared, ran=ran: ran.append(ops.name)  # type: ignore[method-assign]
        run(opt, parameters(opt), range(1))
        taken[path] = ran
    assert set(taken["single"]) == {"single"}
    assert set(taken["foreach"]) == {"foreach"}
    assert set(taken["traced"]) == {"traced"}
