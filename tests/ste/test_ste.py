from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.ste import (
    Assumption2,
    ClippedIdentity,
    ClippedReLU,
    CoarseDerivative,
    Identity,
    LogTailedReLU,
    ReLU,
    ReverseExp,
    Sigmoid,
    SwishSign,
    Triangle,
    coarse,
)

INF = math.inf
ALL = [
    Identity(), ClippedIdentity(), Triangle(), SwishSign(), SwishSign(beta=1.5),
    ReLU(), ClippedReLU(), ClippedReLU(ceiling=3.0), Sigmoid(),
    ReverseExp(), ReverseExp(q=3), LogTailedReLU(), LogTailedReLU(q=3),
]  # fmt: skip


def swish_sign(x: float, beta: float = 5.0) -> float:
    u = beta * x
    return beta * (2 - u * math.tanh(u / 2)) / (1 + math.cosh(u))


def logistic(x: float) -> float:
    return math.exp(-x) / (1 + math.exp(-x)) ** 2


PROXIES = [
    # ste, input, g
    (ReLU(), [-2.0, 0.0, 0.5, 7.0], [0, 0, 0.5, 7]),
    (ClippedReLU(), [-2.0, 0.0, 0.5, 7.0], [0, 0, 0.5, 1]),
    (ClippedReLU(3.0), [-2.0, 2.5, 7.0], [0, 2.5, 3]),
    (Sigmoid(), [0.0, math.log(3.0)], [0.5, 0.75]),
    (ReverseExp(3), [-2.0, 0.0, 3.0], [0, 0, 3 - 3 / math.e]),
    (LogTailedReLU(3), [-2.0, 0.0, 2.5, 3.0, 5.0], [0, 0, 2.5, 3, 3 + math.log(3)]),
]


@pytest.mark.parametrize(("ste", "inputs", "expected"), PROXIES)
def test_proxy(ste: CoarseDerivative, inputs: list[float], expected: list[float]) -> None:
    got = ste.proxy(torch.tensor(inputs, dtype=torch.float64))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


ROWS = [
    # ste, input, derivative
    (Identity(), [-3.0, -0.0, 0.0, 2.0], [1, 1, 1, 1]),
    (ClippedIdentity(), [-1.001, -1.0, -0.0, 1.0, 1.001], [0, 1, 1, 1, 0]),
    (Triangle(), [-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0], [0, 0, 1, 2, 1.5, 0, 0]),
    (SwishSign(), [-0.5, 0.0, 0.3, 1.0], [swish_sign(v) for v in (-0.5, 0.0, 0.3, 1.0)]),
    (SwishSign(2.0), [0.0, 0.7], [2.0, swish_sign(0.7, 2.0)]),
    (ReLU(), [-2.0, -0.0, 0.0, 1e-30, 5.0], [0, 0, 0, 1, 1]),
    (ClippedReLU(), [-2.0, 0.0, 1e-30, 1.0, 1.001], [0, 0, 1, 1, 0]),
    (ClippedReLU(2.5), [0.0, 2.5, 2.6], [0, 1, 0]),
    (Sigmoid(), [0.0, 1.5, -1.5], [0.25, logistic(1.5), logistic(1.5)]),
    (ReverseExp(), [-800.0, 0.0, 1e-30, 2.0], [0, 0, 1, math.exp(-2)]),
    (ReverseExp(15), [15.0, 30.0], [math.exp(-1), math.exp(-2)]),
    (LogTailedReLU(), [-1.0, 0.0, 1.0, 2.0], [0, 0, 1, 0.5]),
    (LogTailedReLU(3), [-1.0, 0.5, 3.0, 5.0], [0, 1, 1, 1 / 3]),
    # s(40) rounds to 1 in float64: the tail is kept all the same.
    (Sigmoid(), [40.0, -40.0], [math.exp(-40), math.exp(-40)]),
]


@pytest.mark.parametrize(("ste", "inputs", "expected"), ROWS)
def test_derivative(ste: CoarseDerivative, inputs: list[float], expected: list[float]) -> None:
    got = ste.derivative(torch.tensor(inputs, dtype=torch.float64))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=0, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ste", [*ALL, ClippedReLU(0.3)], ids=repr)
def test_vjp_is_the_gradient_times_the_derivative(
    ste: CoarseDerivative, dtype: torch.dtype
) -> None:
    kinks = [0.0, -0.0, 1.0, -1.0, 3.0, 0.3, 1e-7, -1e-7, -100.0]
    ends = torch.nextafter(torch.tensor([1.0, -1.0]), torch.tensor([9.0, -9.0])).tolist()
    line = torch.linspace(-6, 6, 101, dtype=torch.float64)
    x = torch.cat([torch.tensor(kinks + ends, dtype=torch.float64), line]).to(dtype)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = x.clone(), grad.clone()
    got, expected = ste.vjp(x, grad), grad * ste.derivative(x)
    rough = dtype in (torch.bfloat16, torch.float16)
    torch.testing.assert_close(got, expected, rtol=2e-2 if rough else 1e-6, atol=1e-2 * rough)
    assert torch.equal(got == 0, expected == 0)
    assert torch.equal(x, before[0])
    assert torch.equal(grad, before[1])


@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_vanishes_below_zero(ste: CoarseDerivative) -> None:
    assert ste.vanishes_below_zero == isinstance(
        ste, (ReLU, ClippedReLU, ReverseExp, LogTailedReLU)
    )


def test_the_top_level_comes_from_the_quantizer() -> None:
    assert ReverseExp().for_top(3) == ReverseExp(3)
    assert LogTailedReLU().for_top(15) == LogTailedReLU(15)
    assert ClippedReLU().for_top(3) == ClippedReLU(3.0)
    assert ClippedReLU(1.0).for_top(3) == ClippedReLU(1.0)
    assert Triangle().for_top(3) == Triangle()


@pytest.mark.parametrize("make", [ReverseExp, LogTailedReLU])
def test_another_top_level_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"has q=3, but its quantizer's highest level is 15"):
        make(3).for_top(15)
    for q in (0, -1, 256, 2.0, True):
        with pytest.raises(ValueError, match=r"needs q to be .* 1\.\.255"):
            make(q)


@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_derivative_is_that_of_the_proxy(ste: CoarseDerivative) -> None:
    # An even number of points: the kinks at -1, 0 and 1 are not among them.
    x = torch.linspace(-4, 4, 4002, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ste.proxy(x).sum(), x)
    torch.testing.assert_close(ste.derivative(x.detach()), slope, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_proxy_is_the_integral_of_the_derivative(ste: CoarseDerivative) -> None:
    # By the midpoint rule, hence without autograd; no kink is a midpoint.
    x = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    middle = (x[1:] + x[:-1]) / 2
    area = torch.cumsum(ste.derivative(middle) * (x[1:] - x[:-1]), 0)
    torch.testing.assert_close(ste.proxy(x)[1:] - ste.proxy(x)[:1], area, atol=2e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ste", [*ALL, ClippedReLU(1e30)], ids=repr)
def test_reduced_precision(ste: CoarseDerivative, dtype: torch.dtype) -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64).to(dtype)
    for function in (ste.derivative, ste.proxy):
        assert function(x).dtype == dtype
        torch.testing.assert_close(function(x).double(), function(x.double()), atol=0.04, rtol=0.04)


@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_far_out_is_finite(ste: CoarseDerivative) -> None:
    x = torch.tensor([-1e30, -1e3, 1e3, 1e30])
    assert torch.isfinite(ste.derivative(x)).all()
    assert torch.isfinite(ste.derivative(torch.tensor([-2e4, 6e4], dtype=torch.float16))).all()
    assert torch.isfinite(ste.proxy(x)).all()


@pytest.mark.parametrize("bound", [0.3, 0.9, 1.0, 1.7, 6.0])
@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_assumption2_constants(ste: CoarseDerivative, bound: float) -> None:
    x = torch.linspace(0, bound, 100_001, dtype=torch.float64)[1:]
    slope = ste.derivative(x)
    left = ste.proxy(torch.linspace(-bound, 0, 1001, dtype=torch.float64))
    got = ste.assumption2(bound)
    assert got.holds == bool((left == 0).all() and slope.min() > 0)
    assert got.delta == pytest.approx(float(slope.min()), abs=1e-4)
    assert got.delta_tilde == pytest.approx(float(slope.max()), abs=1e-3)


def test_assumption2_values() -> None:
    assert ClippedIdentity().assumption2(1.0) == Assumption2(False, 1.0, 1.0)
    assert ClippedIdentity().assumption2(1.1) == Assumption2(False, 0.0, 1.0)
    # the table of the specification, A2
    assert ReverseExp(3).assumption2(10.0).delta == pytest.approx(0.0357, abs=5e-5)
    assert ReverseExp(15).assumption2(50.0).delta == pytest.approx(0.0357, abs=5e-5)
    assert LogTailedReLU(3).assumption2(10.0).delta == pytest.approx(0.125)
    assert LogTailedReLU(15).assumption2(50.0).delta == pytest.approx(0.0278, abs=5e-5)
    assert ReLU().assumption2(1e9) == Assumption2(True, 1.0, 1.0)
    assert ClippedReLU(2.0).assumption2(2.0) == Assumption2(True, 1.0, 1.0)
    assert ClippedReLU(2.0).assumption2(2.1) == Assumption2(False, 0.0, 1.0)
    assert Sigmoid().assumption2(2.0) == Assumption2(False, pytest.approx(logistic(2.0)), 0.25)
    # s(40) rounds to 1 in float64, and cosh(1000) overflows: delta stays what it is.
    assert Sigmoid().assumption2(40.0).delta == pytest.approx(math.exp(-40), rel=1e-12, abs=0)
    assert Sigmoid().assumption2(1000.0).delta == 0


@pytest.mark.parametrize("bound", [0.0, -1.0, INF, math.nan])
@pytest.mark.parametrize("ste", ALL, ids=repr)
def test_assumption2_refuses(ste: CoarseDerivative, bound: float) -> None:
    with pytest.raises(ValueError, match="needs a finite bound > 0"):
        ste.assumption2(bound)


@pytest.mark.parametrize("beta", [0.0, -1.0, INF, math.nan])
def test_swish_sign_refuses(beta: float) -> None:
    with pytest.raises(ValueError, match="needs a finite beta > 0"):
        SwishSign(beta)


@pytest.mark.parametrize("ceiling", [0.0, -1.0, INF, math.nan])
def test_clipped_relu_refuses(ceiling: float) -> None:
    with pytest.raises(ValueError, match="needs a finite ceiling > 0"):
        ClippedReLU(ceiling)


def test_coarse_uses_the_derivative_at_the_input() -> None:
    x = torch.tensor([-0.25, 0.75], dtype=torch.float64, requires_grad=True)
    y = coarse(x, lambda v: v.sign() * 7, Triangle())
    (gradient,) = torch.autograd.grad(y, x, torch.tensor([2.0, -4.0], dtype=torch.float64))
    assert y.tolist() == [-7.0, 7.0]
    assert gradient.tolist() == [2 * 1.5, -4 * 0.5]
