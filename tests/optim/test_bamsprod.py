from __future__ import annotations

import copy
import io
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from coarsegrad.optim import AMSBound, BAMSProd
from coarsegrad.optim.bounds import narrow, start
from optim.table import CASES, Case
from reference.bamsprod import Reference, from_options


def gradients(shape: tuple[int, ...], steps: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64) * (1 + 3 * (t % 7 == 0))
        for t in range(steps)
    ]


def run(opt: torch.optim.Optimizer, w: torch.nn.Parameter, grads: list[torch.Tensor]) -> None:
    for g in grads:
        w.grad = g.to(w.dtype)
        opt.step()


def parameter(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.nn.Parameter:
    generator = torch.Generator().manual_seed(1)
    return torch.nn.Parameter((torch.rand(shape, generator=generator) - 0.5).to(dtype))


LATENT = [case for case in CASES if case.rule is BAMSProd]


@pytest.mark.parametrize("case", LATENT, ids=str)
@pytest.mark.parametrize("shape", [(6,), (3, 2, 3, 3)])
def test_statistics_equal_the_twins(case: Case, shape: tuple[int, ...]) -> None:
    """The weights do on every path, in contracts; here what they rest on, to the last digit."""
    (w,) = case.weights(shapes=[shape])
    twin = from_options(w.detach().numpy().copy(), case.options.get("lr", 1e-2),
                        {k: v for k, v in case.options.items() if k != "lr"})  # fmt: skip
    opt = case.build([w])
    for g in [torch.zeros(shape).double(), *gradients(shape, 30)]:
        w.grad = g.clone()
        opt.step()
        twin.step(g.numpy())
    state = opt.state[w]
    for value, expected in zip(state["bounds"], (twin.n, twin.c, twin.c_l, twin.c_u), strict=True):
        np.testing.assert_allclose(value.reshape(-1), expected.reshape(-1), rtol=1e-9)
    for key, array in (("m", twin.m), ("v", twin.v), ("vhat", twin.v_hat)):
        np.testing.assert_allclose(state[key], array, rtol=1e-12, atol=1e-15)


def test_float32_stays_near_the_twin() -> None:
    w = parameter((8, 9), torch.float32)
    twin = Reference(w.detach().double().numpy().copy(), 0.01)
    run(BAMSProd([w], lr=0.01), w, gradients((8, 9), 50))
    for g in gradients((8, 9), 50):
        twin.step(g.numpy())
    np.testing.assert_allclose(w.detach().numpy(), twin.w, atol=1e-5)


def test_limit_gamma_to_zero_is_amsgrad() -> None:
    w, u = parameter((5, 7)), parameter((5, 7))
    run(BAMSProd([w], lr=0.01, gamma=1e-12, box=None), w, gradients((5, 7), 200))
    run(torch.optim.Adam([u], lr=0.01, amsgrad=True), u, gradients((5, 7), 200))
    torch.testing.assert_close(w, u, rtol=0, atol=1e-7)


def _amsgrad(w: torch.Tensor, grads: list[torch.Tensor], lr: float) -> torch.Tensor:
    """AMSGrad with Adam's step size and the maximum over the raw v, as in the paper and optax."""
    m = v = vhat = torch.zeros_like(w)
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        vhat = torch.maximum(vhat, v)
        w = w - lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (vhat.sqrt() + 1e-8)
    return w


def test_limit_gamma_to_infinity_is_momentum_sgd() -> None:
    w = parameter((5, 7))
    u = w.detach().clone()
    grads = gradients((5, 7), 100)
    run(BAMSProd([w], lr=0.01, gamma=1e15, cstar="constant", c=0.25, box=None,
                 bias_correction=False), w, grads)  # fmt: skip
    m = torch.zeros_like(u)
    for g in grads:
        m = 0.9 * m + 0.1 * g
        u = u - 0.01 / math.sqrt(0.25) * m
    torch.testing.assert_close(w.detach(), u, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 10.0])
def test_limit_sqrt_and_constant_is_amsbound(gamma: float) -> None:
    """final_lr = eta / sqrt(c): clipping the root of vhat is clipping the rate."""
    w, u = parameter((5, 7)), parameter((5, 7))
    grads = gradients((5, 7), 100)
    run(BAMSProd([w], lr=0.01, gamma=gamma, cstar="constant", c=0.25, space="sqrt", eps=1e-30,
                 bias_correction=False), w, grads)  # fmt: skip
    run(AMSBound([u], lr=0.01, gamma=gamma, final_lr=0.01 / math.sqrt(0.25), eps=1e-30,
                 bias_correction=False, box=(-1, 1)), u, grads)  # fmt: skip
    torch.testing.assert_close(w.detach(), u.detach(), rtol=0, atol=1e-12)


def test_limit_is_met_only_without_bias_correction() -> None:
    """The bounds of AdaBound clip the corrected rate, BAMSProd's the second moment before it."""
    w, u = parameter((5, 7)), parameter((5, 7))
    grads = gradients((5, 7), 100)
    run(BAMSProd([w], lr=0.01, gamma=0.1, cstar="constant", c=0.25, space="sqrt"), w, grads)
    run(AMSBound([u], lr=0.01, gamma=0.1, final_lr=0.02), u, grads)
    assert float((w - u).detach().abs().max()) > 1e-6


def test_scaling_the_loss_leaves_the_path_unchanged() -> None:
    w, u = parameter((6, 4)), parameter((6, 4))
    run(BAMSProd([w], lr=0.01, eps=1e-12), w, gradients((6, 4), 100))
    run(BAMSProd([u], lr=0.01, eps=1e-12), u, [100 * g for g in gradients((6, 4), 100)])
    torch.testing.assert_close(w, u, rtol=0, atol=1e-7)


def test_zero_gradients_first_then_the_path_of_fresh_moments() -> None:
    """c_u = 0 would lock for ever; nothing may be learnt from steps without gradient."""
    w = parameter((4, 4))
    opt = BAMSProd([w], lr=0.01)
    before = w.detach().clone()
    run(opt, w, [torch.zeros(4, 4)] * 5)
    assert torch.equal(w, before)
    assert opt.state[w]["bounds"].tolist() == [0.0, 0.0, 0.0, math.inf]
    run(opt, w, gradients((4, 4), 50))
    expected = _amsgrad(before, [torch.zeros(4, 4).double()] * 5 + gradients((4, 4), 50), 0.01)
    torch.testing.assert_close(w.detach(), expected, rtol=0, atol=2e-2)
    assert float(opt.state[w]["bounds"][3]) > 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1e12, allow_nan=False), min_size=1, max_size=60),
    st.floats(1e-6, 1e3),
    st.sampled_from(["relative", "constant"]),
    st.sampled_from(["mean", ("ema", 0.9), ("freeze", 5)]),
    st.sampled_from(["v", "sqrt"]),
)
def test_bounds_are_nested_for_any_estimates(
    estimates: list[float], gamma: float, cstar: str, reduce: Any, space: str
) -> None:
    bounds = start(None, torch.device("cpu"))
    group = {"gamma": gamma, "betas": (0.9, 0.999), "cstar": cstar, "reduce": reduce,
             "space": space}  # fmt: skip
    low, high = 0.0, math.inf
    for estimate in estimates:
        c_hat = torch.tensor(estimate, dtype=torch.float64)
        bounds = narrow(bounds, group, c_hat, torch.tensor(True))
        c_l, c_u = bounds[2:].tolist()
        assert 0 <= low <= c_l <= c_u <= high
        low, high = c_l, c_u


def test_real_groups_follow_amsgrad_outside_the_box() -> None:
    w = torch.nn.Parameter(torch.full((3,), 5.0, dtype=torch.float64))
    start = w.detach().clone()
    opt = BAMSProd([{"params": [w], "binary": False}], lr=0.1)
    grads = gradients((3,), 40)
    run(opt, w, grads)
    torch.testing.assert_close(w.detach(), _amsgrad(start, grads, 0.1), rtol=0, atol=1e-7)
    assert "bounds" not in opt.state[w]


def test_latent_weights_stay_in_the_box() -> None:
    w = parameter((10, 10))
    opt = BAMSProd([w], lr=0.5)
    for g in gradients((10, 10), 30):
        w.grad = g
        opt.step()
        assert float(w.detach().abs().max()) <= 1
    assert float(w.detach().abs().max()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_exact(dtype: torch.dtype) -> None:
    def build() -> tuple[torch.nn.Parameter, BAMSProd]:
        w = parameter((4, 6), dtype)
        return w, BAMSProd([{"params": [w], "lr": 0.02}], lr=0.5)

    grads = gradients((4, 6), 40)
    w, opt = build()
    run(opt, w, grads[:20])
    file = io.BytesIO()
    torch.save({"w": w, "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    run(opt, w, grads[20:])
    u, resumed = build()
    with torch.no_grad():
        u.copy_(saved["w"])
    resumed.load_state_dict(saved["opt"])
    run(resumed, u, grads[20:])
    assert torch.equal(u, w)
    for key, value in opt.state[w].items():
        assert torch.equal(resumed.state[u][key], value), key
        assert resumed.state[u][key].dtype == value.dtype, key
    assert opt.state[w]["v"].dtype == torch.float32


def test_deepcopy_steps_on() -> None:
    w = parameter((3, 3))
    opt = BAMSProd([w], lr=0.1)
    run(opt, w, gradients((3, 3), 3))
    clone = copy.deepcopy(opt)
    (u,) = clone.param_groups[0]["params"]
    run(opt, w, gradients((3, 3), 3, seed=5))
    run(clone, u, gradients((3, 3), 3, seed=5))
    assert torch.equal(u, w)


def test_groups_added_later_are_stepped_and_checked() -> None:
    w, u = parameter((3,)), parameter((4,))
    opt = BAMSProd([w])
    opt.add_param_group({"params": [u], "lr": 0.1})
    before = u.detach().clone()
    u.grad = torch.ones_like(u)
    opt.step()
    assert not torch.equal(u, before)
    with pytest.raises(ValueError, match="Invalid kappa value: 0"):
        opt.add_param_group({"params": [parameter((2,))], "kappa": 0})


def test_schedulers_from_zero_and_closure() -> None:
    w = parameter((3,))
    opt = BAMSProd([w], lr=0.0)
    before = w.detach().clone()

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert float(opt.step(closure).detach()) == pytest.approx(float(before.square().sum()))
    assert torch.equal(w, before)
    torch.optim.lr_scheduler.StepLR(opt, 1)


def test_no_gradient_no_state() -> None:
    w = parameter((3,))
    opt = BAMSProd([w])
    opt.step()
    assert not opt.state


def test_odd_shapes() -> None:
    for w in (parameter(()), torch.nn.Parameter(torch.zeros(0, 3)), parameter((4, 6)).T):
        p = torch.nn.Parameter(w.detach())
        opt = BAMSProd([p])
        p.grad = torch.ones_like(p)
        opt.step()
        assert torch.isfinite(p).all()


def test_nan_propagates() -> None:
    w = parameter((3,))
    opt = BAMSProd([w])
    run(opt, w, [torch.tensor([1.0, math.nan, 1.0])])
    assert w.detach().isnan().tolist() == [False, True, False]


BAD = [
    ({"lr": -1.0}, r"Invalid learning rate: -1.0 \(must be >= 0\)"),
    ({"eps": 0.0}, "Invalid epsilon value: 0.0"),
    ({"betas": (1.0, 0.9)}, "Invalid beta parameter at index 0: 1.0"),
    ({"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
    ({"gamma": 0.0}, "Invalid gamma value: 0.0"),
    ({"kappa": -1.0}, "Invalid kappa value: -1.0"),
    ({"rho_min": 0.0}, r"Invalid rho_min value: 0.0 \(must be in \(0, 1\]\)"),
    ({"cstar": "relativ"}, "Invalid cstar value: 'relativ'.*Did you mean 'relative'"),
    ({"c": math.inf}, "Invalid c value: inf"),
    ({"L_inf": 0.0}, "Invalid L_inf value: 0.0"),
    ({"D_inf": -2.0}, "Invalid D_inf value: -2.0"),
    ({"alpha": 0.0}, "Invalid alpha value: 0.0"),
    ({"box": (1.0, -1.0)}, r"Invalid box value: \(1.0, -1.0\)"),
    ({"box": (math.nan, 1.0)}, r"Invalid box value: \(nan, 1.0\)"),
    ({"lr": math.nan}, "Invalid learning rate: nan"),
    ({"betas": (0.9,)}, r"Invalid betas: \(0.9,\)"),
    ({"weight_decay": -0.1}, "Invalid weight_decay value: -0.1"),
    ({"beta1_lambda": 0.0}, r"Invalid beta1_lambda value: 0.0 \(must be in \(0, 1\]\)"),
    ({"per": "element"}, "Invalid per value: 'element'"),
    ({"space": "w"}, "Invalid space value: 'w'"),
    ({"vhat": "mean"}, "Invalid vhat value: 'mean'"),
    ({"lr_decay": "sqrt"}, "Invalid lr_decay value: 'sqrt'"),
    ({"beta1_decay": "linear"}, "Invalid beta1_decay value: 'linear'"),
    ({"reduce": "sum"}, "Invalid reduce value: 'sum'"),
    ({"reduce": ("ema", 1.0)}, r"Invalid decay of reduce: 1.0 \(must be in \[0, 1\)\)"),
    ({"reduce": ("freeze", 0)}, "Invalid K of reduce: 0"),
    ({"reduce": 3}, "Invalid reduce value: 3"),
    ({"alpha": "mean"}, "Invalid alpha value: mean"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=str)
def test_refuses(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAMSProd([parameter((2,))], **bad)
    with pytest.raises(ValueError, match=message):
        BAMSProd([{"params": [parameter((2,))], **bad}])


def test_refuses_sparse_and_complex_gradients() -> None:
    w = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    w.grad = torch.zeros_like(w)
    with pytest.raises(RuntimeError, match="BAMSProd does not support complex gradients"):
        BAMSProd([w]).step()
    u = torch.nn.Parameter(torch.zeros(2, 2))
    u.grad = torch.zeros(2, 2).to_sparse()
    with pytest.raises(RuntimeError, match="BAMSProd does not support sparse gradients"):
        BAMSProd([u]).step()


@pytest.mark.parametrize("name", ["reddi 1", "reddi 2"])
def test_converges_where_adam_does_not(name: str) -> None:
    """Reddi et al.'s one-dimensional examples, in short: the optimum is -1, Adam goes to +1."""
    period, steep, beta2 = {"reddi 1": (3, 4.0, 1 / 17), "reddi 2": (10, 10.0, 0.3)}[name]
    beta1 = 0.0 if name == "reddi 1" else 0.3
    ends = {}
    for kind in ("adam", "bamsprod"):
        w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        opt: torch.optim.Optimizer
        if kind == "adam":
            opt = torch.optim.Adam([w], betas=(beta1, beta2))
        else:
            opt = BAMSProd([w], betas=(beta1, beta2), alpha=1.0, rho_min=0.05,
                           bias_correction=False)  # fmt: skip
        for t in range(1, 8001):
            opt.param_groups[0]["lr"] = 0.1 / math.sqrt(t)
            w.grad = torch.tensor([steep if t % period == 1 else -1.0], dtype=torch.float64)
            opt.step()
            with torch.no_grad():
                w.clamp_(-1, 1)
        ends[kind] = w.item()
    assert ends["adam"] > 0.9
    assert ends["bamsprod"] < -0.7


def test_an_overflow_in_one_element_spares_the_others() -> None:
    w = parameter((3, 4), torch.float32)
    opt = BAMSProd([w], lr=0.01)
    for g in gradients((3, 4), 5):
        g[0, 0] = 1e25
        w.grad = g.float()
        opt.step()
    assert torch.isfinite(w.detach().flatten()[1:]).all()
    assert not opt.state[w]["bounds"].isnan().any()


def test_tiny_first_gradients_that_lock_the_bound_are_reported() -> None:
    w = parameter((8, 8))
    opt = BAMSProd([w], lr=1e-3)
    grads = gradients((8, 8), 40)
    with pytest.warns(UserWarning, match=r"\d+% of a tensor of shape \[8, 8\] lies over 100 times"):
        run(opt, w, [1e-5 * g for g in grads[:3]] + list(grads[3:]))


def test_tiny_eps_still_bounds_the_step() -> None:
    w = parameter((3,), torch.float32)
    opt = BAMSProd([w], eps=1e-30)
    run(opt, w, [torch.zeros(3)])
    assert torch.isfinite(w.detach()).all()
