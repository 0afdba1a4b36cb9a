from __future__ import annotations

import copy
import warnings

import pytest
import torch

from coarsegrad.nn import Conv2d
from coarsegrad.quantizers import CoarseGradientWarning, Heaviside, Quantizer, QuantReLU
from coarsegrad.ste import (
    ClippedReLU,
    CoarseDerivative,
    Identity,
    LogTailedReLU,
    ReLU,
    ReverseExp,
    Sigmoid,
)

ROWS = [
    # quantizer, input, output, gradient of the output's sum
    (QuantReLU(2, 1.0), [-1.0, -0.0, 0.0, 0.25, 1.0, 1.01, 3.0, 9.0], [0, 0, 0, 1, 1, 2, 3, 3],
     [0, 0, 0, 1, 1, 1, 1, 1]),
    (QuantReLU(2, 0.5), [0.5, 0.75, 1.5, 7.0], [0.5, 1, 1.5, 1.5], [1, 1, 1, 1]),
    (QuantReLU(2, 1.0, levels="midpoint"), [0.0, 1e-9, 0.4, 1.49, 1.51, 2.49, 2.51, 9.0],
     [0, 1, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 1, 1, 1, 1]),
    (QuantReLU(2, 1.0, levels="round"), [0.49, 0.51, 1.49, 1.51, 9.0], [0, 1, 1, 2, 3],
     [1, 1, 1, 1, 1]),
    (QuantReLU(2, 2.0, ClippedReLU()), [-1.0, 2.0, 6.0, 6.01], [0, 2, 6, 6], [0, 1, 1, 0]),
    (QuantReLU(2, 2.0, ClippedReLU(4.0)), [6.01, 8.0, 8.1], [6, 6, 6], [1, 1, 0]),
    (QuantReLU(2, 1.0, LogTailedReLU()), [2.0, 5.0], [2, 3], [1, 1 / 3]),
    (QuantReLU(1, 2.0), [-1.0, 0.1, 9.0], [0, 2, 2], [0, 1, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("quantizer", "inputs", "output", "gradient"), ROWS)
def test_rows(quantizer: QuantReLU, inputs: list, output: list, gradient: list) -> None:
    x = torch.tensor(inputs, requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert y.tolist() == output
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor(gradient, dtype=torch.float32))


def test_the_ste_sees_steps() -> None:
    x = torch.tensor([0.5, 3.0], requires_grad=True)
    QuantReLU(2, 0.5, ReverseExp())(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.exp(-x.detach() / 0.5 / 3))


@pytest.mark.parametrize("bits", range(1, 9))
def test_ceil_is_the_sum_of_steps(bits: int) -> None:
    # A1: sigma(x) = sum of 1{x > a} over a = 0 .. q_b - 1
    quantizer = QuantReLU(bits, 1.0)
    x = torch.linspace(-2, 2**bits + 1, 22_001, dtype=torch.float64)
    above = x[:, None] > torch.arange(2**bits - 1) + 2.0**-20
    assert torch.equal(quantizer.split(x)[0], above.sum(1).double())
    assert quantizer.levels == tuple(map(float, range(2**bits)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_round_off_above_zero_is_level_zero(dtype: torch.dtype) -> None:
    # A1's hazard: cos(pi / 2) is 6e-17 in floating point, and ceil would make a level of it.
    tiny = torch.tensor([6e-17, 1e-7, 9e-7]).to(dtype)
    assert QuantReLU(4, 1.0).split(tiny)[0].tolist() == [0, 0, 0]
    assert QuantReLU(4, 1.0).split(torch.tensor([1e-3], dtype=dtype))[0].tolist() == [1]
    # 3 * 0.1 / 0.1 is a little more than 3, and is level 3
    assert QuantReLU(4, 0.1).split(torch.tensor([0.1 * 3], dtype=torch.float64))[0].tolist() == [3]


def test_one_bit_is_heaviside() -> None:
    x = torch.arange(-300, 301) / 100
    assert torch.equal(QuantReLU(1, 1.0)(x), Heaviside()(x))


def test_the_default_step_is_the_table() -> None:
    assert QuantReLU(2).step.item() == pytest.approx(0.4865702, abs=1e-6)
    assert QuantReLU(4, levels="midpoint").step.item() == pytest.approx(0.1842433, abs=1e-6)


def test_facts() -> None:
    quantizer = QuantReLU(3)
    assert isinstance(quantizer, Quantizer)
    assert (quantizer.bits, quantizer.ste) == (3, ReLU())
    assert QuantReLU(3, ste=ReverseExp()).ste == ReverseExp(7)
    assert QuantReLU(3, learn="lsq").ste == ClippedReLU(7.0)
    assert [name for name, _ in quantizer.named_parameters()] == []
    assert list(quantizer.state_dict()) == ["step"]
    assert [name for name, _ in QuantReLU(3, learn="pact").named_parameters()] == ["step"]


@pytest.mark.parametrize("levels", ["ceil", "round"])
def test_lsq_gradient(levels) -> None:
    # Esser et al. 2020, eq. (3), by hand; the rounding is left in, ceil's too
    relu = QuantReLU(2, 0.5, levels=levels, learn="lsq")
    x = torch.tensor([[-1.0, 0.3], [0.7, 4.0]], requires_grad=True)
    grad = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    relu(x).backward(grad)
    u = x.detach() / 0.5
    level = relu.split(x)[0].detach()
    inside = (u > 0) & (u <= 3)
    expected = ((level - u * inside) * grad).sum() * (2 * 3) ** -0.5
    torch.testing.assert_close(relu.step.grad, expected)
    torch.testing.assert_close(x.grad, grad * inside)


def test_pact_gradient() -> None:
    # Choi et al. 2018, eq. (3): the ceiling alpha = 3 step gets what lies at or above it
    relu = QuantReLU(2, 0.5, learn="pact", levels="round")
    x = torch.tensor([-1.0, 0.3, 0.7, 1.5, 4.0], requires_grad=True)
    grad = torch.tensor([2.0, -1.0, 0.5, 3.0, -5.0])
    relu(x).backward(grad)
    torch.testing.assert_close(relu.step.grad, torch.tensor(3 * (3.0 - 5.0)))
    torch.testing.assert_close(x.grad, grad * torch.tensor([0.0, 1, 1, 1, 0]))


def test_pact_gradient_in_a_layer() -> None:
    # levels and step reach the output on two ways there
    layer = Conv2d(2, 3, 3, input_quantizer=QuantReLU(2, 0.5, learn="pact"))
    x = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    layer(x).square().sum().backward()
    twin = copy.deepcopy(layer)
    twin.input_quantizer = None
    fed = QuantReLU(2, 0.5, ClippedReLU())(x).requires_grad_()
    twin(fed).square().sum().backward()
    assert fed.grad is not None
    torch.testing.assert_close(layer.input_quantizer.step.grad, 3 * (fed.grad * (x >= 1.5)).sum(),
                               rtol=1e-4, atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("learn", ["lsq", "pact"])
def test_a_learned_step_trains(learn) -> None:
    torch.manual_seed(0)
    x = torch.randn(4000) * 4
    relu = QuantReLU(2, 0.2, learn=learn, levels="round")
    optimizer = torch.optim.SGD(relu.parameters(), lr=0.5)

    def error() -> torch.Tensor:
        return (relu(x[None]) - x[None].relu()).square().mean()

    before = error().item()
    for _ in range(100):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert error().item() < before / 3


def test_calibrate_finds_the_table_on_half_normal_data() -> None:
    middle = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    x = 2 * torch.special.ndtri(middle)
    relu = QuantReLU(2, levels="midpoint").calibrate(x)
    assert relu.step.item() == pytest.approx(2 * 0.5388119, abs=1e-4)
    free = QuantReLU(2).calibrate(x, "lloyd-max")
    assert free.levels == pytest.approx((0, 2 * 0.31772, 2 * 1.00011, 2 * 1.89359), abs=1e-3)
    assert free.step is None


def test_free_levels() -> None:
    free = QuantReLU(2).calibrate(torch.tensor([1.0, 1.0, 2.0, 5.0]), "lloyd-max")
    x = torch.tensor([-1.0, 0.0, 0.1, 1.4, 1.6, 3.4, 3.6, 9.0], requires_grad=True)
    y = free(x)
    y.sum().backward()
    assert y.tolist() == pytest.approx([0, 0, 1, 1, 2, 2, 5, 5])
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert free.levels == (0.0, 1.0, 2.0, 5.0)
    assert free.split(x)[1] is None


def test_the_state_says_whether_levels_are_free() -> None:
    x = torch.linspace(-1, 4, 100)
    uniform, free = QuantReLU(2).calibrate(x), QuantReLU(2).calibrate(x, "lloyd-max")
    for source in (uniform, free):
        for target in (QuantReLU(2), QuantReLU(2).calibrate(x * 2, "lloyd-max")):
            target.load_state_dict(source.state_dict())
            assert torch.equal(target(x), source(x))
            assert target.levels == source.levels


BAD = [
    *[({"bits": bits}, r"needs bits to be an int in 1\.\.8")
      for bits in (0, 9, -1, 2.0, True, "2")],
    *[({"bits": 2, "step": step}, "needs step to be a finite number > 0")
      for step in (0.0, -1.0, float("nan"), float("inf"), "1", True)],
    ({"bits": 2, "levels": "cell"}, "needs levels to be one of .* Did you mean 'ceil'"),
    ({"bits": 2, "learn": "lsg"}, "needs learn to be None, 'lsq' or 'pact'.* Did you mean 'lsq'"),
    ({"bits": 2, "ste": "relu"}, "needs ste to be an instance .* assumption2"),
    ({"bits": 2, "ste": ReLU}, "needs ste to be an instance"),
    ({"bits": 2, "ste": ReverseExp(15)}, "has q=15, but its quantizer's highest level is 3"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantReLU(**arguments)


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a floating point tensor, got torch\.int64"):
        QuantReLU(2)(torch.tensor([1, 2]))


@pytest.mark.parametrize("method", ["mse", "lloyd-max"])
@pytest.mark.parametrize(
    "x", [torch.zeros(0), torch.zeros(5), -torch.ones(4), torch.full((6,), 2.0)]
)
def test_calibration_refuses(method, x: torch.Tensor) -> None:
    relu = QuantReLU(2)
    with pytest.raises(ValueError, match="different positive numbers"):
        relu.calibrate(x, method)
    assert relu.step.item() == QuantReLU(2).step.item()


def test_calibration_refuses_what_it_cannot_do() -> None:
    x = torch.rand(10)
    with pytest.raises(ValueError, match="needs method 'mse' or 'lloyd-max'"):
        QuantReLU(2).calibrate(x, "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot free levels whose step is learned"):
        QuantReLU(2, learn="lsq").calibrate(x, "lloyd-max")
    with pytest.raises(ValueError, match="has free levels and no step"):
        QuantReLU(2).calibrate(x, "lloyd-max").calibrate(x)
    with pytest.raises(ValueError, match="needs finite inputs"):
        QuantReLU(2).calibrate(torch.tensor([1.0, 2.0, float("inf")]))
    with pytest.raises(ValueError, match="at least 7 different positive numbers"):
        QuantReLU(3).calibrate(torch.tensor([1.0, 2.0]), "lloyd-max")


@pytest.mark.parametrize(
    ("ste", "reason"),
    [(Identity(), "g is not 0 for x <= 0"), (Sigmoid(), "g is not 0"),
     (ClippedReLU(1.0), "no gradient from the upper levels")],
)  # fmt: skip
def test_an_ste_that_fails_assumption_2_warns_once(ste: CoarseDerivative, reason: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            QuantReLU(2, ste=ste)
    assert len(caught) == 1
    assert issubclass(caught[0].category, CoarseGradientWarning)
    assert reason in str(caught[0].message)
    assert "ReverseExp()" in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("ste", [ReLU(), ReverseExp(), LogTailedReLU(), ClippedReLU()])
def test_an_ste_that_meets_it_does_not_warn(ste: CoarseDerivative) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        QuantReLU(4, ste=ste)
