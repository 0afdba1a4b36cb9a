"""The fused steps from torch: what they take, that they equal the eager ones, what they leave."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.optim import AdaBound, AMSBound, BAMSProd, Bop, Bop2ndOrder, fused
from coarsegrad.optim.rule import Rule

pytestmark = pytest.mark.skipif(not fused.available(), reason="the native module is not built")

SHAPES = [(6, 5, 3, 3), (40, 700), (33,), (), (2, 3, 2, 2, 2), (0, 4), (1, 1)]

ADAPTIVE: list[dict[str, Any]] = [
    {},
    {"maximize": True, "weight_decay": 0.1},
    {"box": None, "bias_correction": False},
    {"box": (-0.1, 0.3)},
]
CASES: list[tuple[type[Rule], dict[str, Any]]] = [
    *((kind, options) for kind in (BAMSProd, AdaBound, AMSBound) for options in ADAPTIVE),
    (BAMSProd, {"cstar": "constant", "c": 1e-2, "gamma": 0.1}),
    (BAMSProd, {"cstar": "constant", "c": 1e-2, "gamma": 0.1, "per": "channel"}),
    (BAMSProd, {"cstar": "grad", "per": "channel", "gamma": 1.0}),
    (BAMSProd, {"cstar": "literal", "L_inf": 1e-3}),
    (BAMSProd, {"per": "channel", "gamma": 1.0, "space": "sqrt"}),
    (BAMSProd, {"alpha": 0.3, "reduce": "ema", "vhat": "average"}),
    (BAMSProd, {"reduce": ("freeze", 2), "rho_min": 0.9, "lr_decay": "invsqrt", "gamma": 1.0}),
    (BAMSProd, {"beta1_decay": "power", "beta1_lambda": 0.8, "space": "sqrt"}),
    (BAMSProd, {"beta1_decay": "inverse", "betas": (0.3, 0.9), "eps": 1e-2}),
    (AdaBound, {"lr": 1e-3, "final_lr": 1e-3, "gamma": 1.0}),
    (Bop, {"gamma": 0.3, "threshold": 1e-2}),
    (Bop, {"gamma": 0.6, "threshold": 0.0, "maximize": True}),
    (Bop2ndOrder, {"gamma": 0.3, "threshold": 0.2}),
    (Bop2ndOrder, {"gamma": 0.3, "threshold": 0.2, "unbiased": True, "sigma": 0.3, "eps": 1e-3}),
]


def tensors(seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(s, generator=generator) - 0.5) * scale for s in SHAPES]


def built(kind: type[Rule], params: list[Tensor], **options: Any) -> Rule:
    if kind in (Bop, Bop2ndOrder):
        params = [torch.where(p < 0, -1.0, 1.0).to(p) for p in params]
    return kind([nn.Parameter(p) for p in params], **options)


def step(optimizer: Rule, grads: list[Tensor]) -> None:
    for p, g in zip(params_of(optimizer), grads, strict=True):
        p.grad = g
    optimizer.step()


def params_of(optimizer: Rule) -> list[Tensor]:
    params: list[Tensor] = optimizer.param_groups[0]["params"]
    return params


def state_of(optimizer: Rule) -> list[Tensor]:
    return [t for p in params_of(optimizer) for t in optimizer.state[p].values()]


@pytest.fixture
def native_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors each native step took."""
    taken: list[int] = []
    run = fused._run

    def counted(name: str, batch: Any, *rest: Any, **options: Any) -> bool:
        taken.append(len(batch.params))
        return run(name, batch, *rest, **options)

    monkeypatch.setattr(fused, "_run", counted)
    return taken


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_equals_the_eager_step(
    kind: type[Rule], options: dict[str, Any], binary: bool, native_steps: list[int]
) -> None:
    if kind in (Bop, Bop2ndOrder) and not binary:
        return
    fast, slow = (
        built(kind, tensors(0), fused=native, diagnostics=True, **options)
        for native in (None, False)
    )
    for optimizer in (fast, slow):
        optimizer.param_groups[0]["binary"] = binary
    for t in range(6):
        grads = tensors(t + 1, 3.0)
        step(fast, grads)
        step(slow, grads)
        for p, q in zip(params_of(fast), params_of(slow), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        for s, u in zip(state_of(fast), state_of(slow), strict=True):
            torch.testing.assert_close(s, u, rtol=1e-4, atol=1e-6)
        close_diagnostics(fast, slow)
    assert native_steps == [len(SHAPES)] * 6


def close_diagnostics(fast: Rule, slow: Rule) -> None:
    found, wanted = fast.diagnostics(), slow.diagnostics()
    del found["0.5"], wanted["0.5"]  # the empty tensor
    assert found.keys() == wanted.keys()
    for layer in wanted:
        assert found[layer].keys() == wanted[layer].keys(), layer
        for key, value in wanted[layer].items():
            # Rounding may put an element of a thousand on the other side of a bound.
            assert found[layer][key] == pytest.approx(value, rel=1e-4, abs=1e-3), (layer, key)


def laid_out(all_: list[Tensor]) -> list[Tensor]:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    kept = torch.preserve_format
    return [t.clone(memory_format=formats.get(t.dim(), kept)) for t in all_]


def test_channels_last_parameters_are_stepped_in_their_own_order(native_steps: list[int]) -> None:
    plain = built(BAMSProd, tensors(0), per="channel", gamma=1.0)
    last, mixed = (built(BAMSProd, laid_out(tensors(0)), per="channel", gamma=1.0) for _ in "12")
    for t in range(3):
        grads = tensors(t + 1)
        step(plain, grads)
        step(last, laid_out(grads))
        step(mixed, grads)  # gradients in another order than their parameters
        assert all(torch.equal(g, h) for g, h in zip(grads, tensors(t + 1), strict=True))
    assert native_steps == [len(SHAPES)] * 9
    for p, q in zip(params_of(plain), params_of(last), strict=True):
        torch.testing.assert_close(p, q)
    for s, u, x in zip(*map(state_of, (plain, last, mixed)), strict=True):
        torch.testing.assert_close(s, u, rtol=1e-5, atol=1e-7)
        assert u.stride() == x.stride()


def test_gradients_in_another_order_give_the_same_bits() -> None:
    one, two = (built(BAMSProd, laid_out(tensors(0))) for _ in "12")
    for t in range(3):
        step(one, laid_out(tensors(t + 1)))
        step(two, tensors(t + 1))
    assert all(torch.equal(p, q) for p, q in zip(params_of(one), params_of(two), strict=True))


def test_a_parameter_that_does_not_fit_is_stepped_eagerly_beside_the_others(
    native_steps: list[int],
) -> None:
    def mixed() -> list[Tensor]:
        return [torch.rand(9, 4, generator=torch.Generator().manual_seed(1)),
                torch.linspace(-1, 1, 36).reshape(4, 9).T,
                torch.linspace(-1, 1, 12, dtype=torch.float64),
                torch.linspace(-1, 1, 5)]  # fmt: skip

    fast, slow = (built(BAMSProd, mixed(), fused=native) for native in (None, False))
    for _ in range(3):
        for optimizer in (fast, slow):
            step(optimizer, [torch.ones_like(p) for p in params_of(optimizer)])
    for p, q in zip(params_of(fast), params_of(slow), strict=True):
        torch.testing.assert_close(p, q)
    assert native_steps == [2] * 3


def test_parameters_count_a_version_up_and_gradients_do_not() -> None:
    optimizer = built(BAMSProd, tensors(0))
    step(optimizer, tensors(1))
    changed = params_of(optimizer)
    before = [t._version for t in changed]
    grads = tensors(2)
    step(optimizer, grads)
    assert [t._version for t in changed] == [v + 1 for v in before]
    assert [g._version for g in grads] == [g._version for g in tensors(2)]


def test_backward_through_a_stepped_weight_is_refused() -> None:
    w = nn.Parameter(torch.rand(4, 4))
    x = torch.rand(4, requires_grad=True)
    loss = (w @ x).square().sum()
    w.grad = torch.ones(4, 4)
    BAMSProd([w]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


FITTING: list[tuple[str, bool, Tensor, Tensor, Tensor]] = [
    ("plain", True, torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, 4)),
    ("grad of other strides", True, torch.zeros(3, 4), torch.zeros(4, 3).T, torch.zeros(3, 4)),
    ("transposed parameter", False, torch.zeros(4, 3).T, torch.zeros(3, 4), torch.zeros(3, 4)),
    ("expanded parameter", False, torch.zeros(1).expand(3), torch.zeros(3), torch.zeros(3)),
    ("state of other strides", False, torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(4, 3).T),
    ("double", False, *(torch.zeros(3, dtype=torch.float64),) * 3),
    ("half gradient", False, torch.zeros(3), torch.zeros(3, dtype=torch.half), torch.zeros(3)),
    ("half state", False, torch.zeros(3), torch.zeros(3), torch.zeros(3, dtype=torch.half)),
    ("sparse gradient", False, torch.zeros(3), torch.zeros(3).to_sparse(), torch.zeros(3)),
    ("meta", False, *(torch.zeros(3, device="meta"),) * 3),
]


@pytest.mark.parametrize("row", FITTING, ids=[row[0] for row in FITTING])
def test_what_fits(row: tuple[str, bool, Tensor, Tensor, Tensor]) -> None:
    _, wanted, p, grad, state = row
    good = torch.zeros(2)
    step = [torch.tensor(0.0)] * 2
    for parameter in (p, nn.Parameter(p)):
        found = fused.fitting([good, parameter], [good, grad], {"step": step, "m": [good, state]})
        assert found == ([0, 1] if wanted else [0])


def test_state_of_another_kind_does_not_fit() -> None:
    class Odd(Tensor):
        pass

    x = torch.zeros(3)
    small = {"step": [torch.tensor(0.0)], "bounds": [torch.zeros(4, dtype=torch.float64)]}
    assert fused.fitting([x], [x], small) == [0]
    assert fused.fitting([x], [x], small | {"step": [torch.zeros((), dtype=torch.double)]}) == []
    assert fused.fitting([x], [x], small | {"bounds": [torch.zeros(4)]}) == []
    assert fused.fitting([x.as_subclass(Odd)], [x], small) == []


NUMBERS = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-30, -3e38, 1e20, 0.3]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (BAMSProd, {}),
        (BAMSProd, {"box": None}),
        (BAMSProd, {"cstar": "constant"}),
        (BAMSProd, {"vhat": "average"}),
        (AdaBound, {}),
        (AMSBound, {"box": (-1.0, 1.0)}),
    ],
    ids=str,
)
def test_nan_and_inf_pass_as_in_torch(kind: type[Rule], options: dict[str, Any]) -> None:
    numbers = torch.tensor(NUMBERS)
    w, g = (t.reshape(1, -1) for t in torch.meshgrid(numbers, numbers, indexing="ij"))
    fast, slow = (kind([nn.Parameter(w.clone())], fused=n, **options) for n in (None, False))
    for grad in (g, torch.ones_like(g)):
        step(fast, [grad.contiguous()])
        step(slow, [grad.contiguous()])
        for a, b in zip(
            [*params_of(fast), *state_of(fast)], [*params_of(slow), *state_of(slow)], strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", [Bop, Bop2ndOrder])
def test_bop_keeps_a_weight_whose_gradient_is_nan(kind: type[Rule]) -> None:
    w = torch.ones(1, len(NUMBERS))
    fast, slow = (kind([nn.Parameter(w.clone())], gamma=0.1, fused=n) for n in (None, False))
    for optimizer in (fast, slow):
        step(optimizer, [torch.tensor([NUMBERS])])
    assert torch.equal(params_of(fast)[0], params_of(slow)[0])
    assert params_of(fast)[0][0, NUMBERS.index(max(NUMBERS, key=math.isnan))] == 1


@pytest.mark.parametrize("name", ["m", "v", "vhat"])
def test_a_nan_stays_in_the_state_that_it_reached(name: str) -> None:
    optimizer = BAMSProd([nn.Parameter(torch.zeros(1, 20))])
    step(optimizer, [torch.ones(1, 20)])
    state = optimizer.state[params_of(optimizer)[0]]
    state[name][0, 3] = math.nan
    step(optimizer, [torch.ones(1, 20)])
    assert state[name].isnan().nonzero().tolist() == [[0, 3]]
    assert params_of(optimizer)[0].isnan().nonzero().tolist() == [[0, 3]]


def test_threads_of_torch_do_not_change_the_result() -> None:
    def run(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            w, g = (
                torch.rand(64, 3000, generator=torch.Generator().manual_seed(i)) for i in (3, 4)
            )
            optimizer = BAMSProd([nn.Parameter(w)])
            step(optimizer, [g])
        finally:
            torch.set_num_threads(before)
        return [*params_of(optimizer), *state_of(optimizer)]

    assert all(torch.equal(one, two) for one, two in zip(run(1), run(3), strict=True))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    optimizer, grads = BAMSProd([nn.Parameter(torch.rand(64, 3000))]), [torch.rand(64, 3000)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    step(optimizer, grads)
    child = os.fork()
    if child == 0:
        done = False
        try:
            signal.alarm(20)
            step(optimizer, grads)
            stepped = optimizer.state[params_of(optimizer)[0]]["step"].item() == 2
            done = stepped and len(list(Path("/proc/self/task").iterdir())) == 2
        finally:
            os._exit(0 if done else 1)  # or the child would go on with the tests
    torch.set_num_threads(before)
    assert os.waitpid(child, 0)[1] == 0


def test_without_the_native_module_steps_are_eager(
    monkeypatch: pytest.MonkeyPatch, native_steps: list[int]
) -> None:
    monkeypatch.setattr(fused, "_native", None)
    assert not fused.available()
    optimizer = built(BAMSProd, tensors(0), fused=True)
    with pytest.warns(RuntimeWarning, match="the native module is not built into this install"):
        step(optimizer, tensors(1))
    assert native_steps == []
    assert optimizer.state[params_of(optimizer)[0]]["step"] == 1
