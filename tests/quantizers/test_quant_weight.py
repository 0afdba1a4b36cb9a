from __future__ import annotations

import pytest
import torch

from coarsegrad.nn import Linear
from coarsegrad.quantizers import DoReFa, Quantizer, QuantWeight, gaussian_step
from coarsegrad.ste import Identity


def weight() -> torch.Tensor:
    return torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_levels_and_steps(bits: int, scale) -> None:
    quantizer, w = QuantWeight(bits, scale), weight()
    levels, step = quantizer.split(w)
    rms = w.square().mean(1).sqrt() if scale == "channel" else w.square().mean().sqrt()
    torch.testing.assert_close(step, gaussian_step(bits) * rms)
    assert set(levels.unique().tolist()) <= set(quantizer.levels)
    top = max(1, 2 ** (bits - 1) - 1)
    assert len(quantizer.levels) == (2 if bits == 1 else 2 * top + 1)
    wide = step[:, None] if scale == "channel" else step
    error = (quantizer(w) - w).abs()
    if bits > 1:
        inside = w.abs() <= wide * top
        assert bool((error[inside] <= 0.501 * wide.expand_as(w)[inside]).all())


def test_rows() -> None:
    w = torch.tensor([[-2.0, -0.6, -0.2, 0.0, 0.4, 9.0]], requires_grad=True)
    quantizer = QuantWeight(3, "learned", step=0.5)
    levels, _ = quantizer.split(w)
    assert levels.tolist() == [[-3, -1, 0, 0, 1, 3]]
    quantizer(w).sum().backward()
    # LSQ: nothing beyond the outer levels for w; for the step, l - w/tau inside, l outside
    assert w.grad.tolist() == [[0, 1, 1, 1, 1, 0]]
    u = torch.tensor([-3.0, -1.2, -0.4, 0.0, 0.8, 3.0])
    expected = (levels[0] - u * (u.abs() < 3)).sum() * (6 * 3) ** -0.5
    torch.testing.assert_close(quantizer.step.grad, expected)


def test_identity_passes_the_gradient_where_the_step_is_fitted() -> None:
    w = weight().requires_grad_()
    QuantWeight(2)(w).sum().backward()
    torch.testing.assert_close(w.grad, torch.ones_like(w))


def test_zero_weights_stay_finite() -> None:
    for quantizer in (QuantWeight(2), QuantWeight(4, "tensor"), DoReFa(2), DoReFa(1)):
        w = torch.zeros(3, 4, requires_grad=True)
        y = quantizer(w)
        y.sum().backward()
        assert torch.isfinite(y).all()
        assert torch.isfinite(w.grad).all()


def test_learned_steps_per_channel_in_a_layer() -> None:
    quantizer = QuantWeight(4, "learned", channels=3)
    layer = Linear(5, 3, bias=False, weight_quantizer=quantizer)
    quantizer.calibrate(layer.weight)
    layer(torch.randn(2, 5)).sum().backward()
    assert quantizer.step.shape == quantizer.step.grad.shape == (3,)
    with pytest.raises(ValueError, match="3 output channels"):
        Linear(5, 3, weight_quantizer=QuantWeight(4, "learned", channels=2))


def test_weights_only() -> None:
    for quantizer in (QuantWeight(2), QuantWeight(2, "tensor"), DoReFa(3)):
        assert isinstance(quantizer, Quantizer)
        assert quantizer.weights_only
        with pytest.raises(ValueError, match="for weights only"):
            Linear(5, 3, input_quantizer=quantizer)


BAD = [
    ({"bits": 0}, r"needs bits to be an int in 1\.\.8"),
    ({"bits": 2, "scale": "chanel"}, "Did you mean 'channel'"),
    ({"bits": 2, "step": 0.1}, "only with scale='learned'"),
    ({"bits": 2, "channels": 3}, "only with scale='learned'"),
    ({"bits": 2, "scale": "learned", "step": 0.0}, "needs step to be a finite number > 0"),
    ({"bits": 2, "scale": "learned", "channels": 0}, "needs channels"),
    ({"bits": 2, "ste": "identity"}, "needs ste to be an instance"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantWeight(**arguments)


def test_calibrate_refuses() -> None:
    with pytest.raises(ValueError, match="for scale='learned', got 'channel'"):
        QuantWeight(2).calibrate(weight())
    for bad in (torch.zeros(0), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match="finite weights"):
            QuantWeight(2, "learned").calibrate(bad)
    with pytest.raises(ValueError, match="channels=2, got a weight of 6 slices"):
        QuantWeight(2, "learned", channels=2).calibrate(weight())


@pytest.mark.parametrize("bits", range(2, 9))
def test_dorefa_is_its_formula(bits: int) -> None:
    w, top = weight().double(), 2**bits - 1
    t = w.tanh() / (2 * w.tanh().abs().max()) + 0.5
    expected = 2 * (t * top).round() / top - 1
    torch.testing.assert_close(DoReFa(bits)(w), expected)
    assert set(DoReFa(bits).split(w)[0].unique().tolist()) <= set(DoReFa(bits).levels)


def test_dorefa_gradient() -> None:
    w = weight().double().requires_grad_()
    DoReFa(3)(w).sum().backward()
    expected = (1 - w.tanh().square()) / w.tanh().abs().max()
    torch.testing.assert_close(w.grad, expected.detach())


def test_dorefa_one_bit_is_the_scaled_sign() -> None:
    w = weight()
    torch.testing.assert_close(DoReFa(1)(w), w.sign() * w.abs().mean())
    assert DoReFa(1).levels == (-1.0, 1.0)
    assert DoReFa(2).ste == Identity()


def test_integers_are_refused() -> None:
    for quantizer in (QuantWeight(2), DoReFa(2)):
        with pytest.raises(ValueError, match="needs a floating point tensor"):
            quantizer(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"needs bits to be an int in 1\.\.8"):
        DoReFa(9)
