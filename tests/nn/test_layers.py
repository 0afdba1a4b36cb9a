from __future__ import annotations

import copy
import io

import pytest
import torch
from torch.nn import functional as F

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Sign, binary_sign
from coarsegrad.ste import ClippedIdentity, Identity


def signs(scale: str = "none") -> Sign:
    return Sign(ste=Identity(), scale=scale)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": 1, "pad_value": 1},
    {"padding": (1, 0), "pad_value": -1, "stride": (1, 2)},
    {"padding": "same", "dilation": 2, "pad_value": 1},
    {"padding": "valid", "pad_value": -1},
    {"padding": 2, "dilation": 2, "groups": 2},
]


@pytest.mark.parametrize("scale", ["none", "tensor", "channel"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv_is_torch_on_signs(geometry: dict, scale: str) -> None:
    layer = Conv2d(4, 6, 3, input_quantizer=signs(), weight_quantizer=signs(scale), **geometry)
    x = torch.randn(2, 4, 9, 8)
    plain = {k: v for k, v in geometry.items() if k != "pad_value"}
    twin = torch.nn.Conv2d(4, 6, 3, bias=False, **plain)
    with torch.no_grad():
        twin.weight.copy_(binary_sign(layer.weight))
    if "pad_value" in geometry and twin.padding != "valid":
        padded = F.pad(binary_sign(x), twin._reversed_padding_repeated_twice,
                       value=geometry["pad_value"])  # fmt: skip
        sums = F.conv2d(padded, twin.weight, None, twin.stride, 0, twin.dilation, twin.groups)
    else:
        sums = twin(binary_sign(x))
    assert torch.equal(sums, sums.round())
    _, alpha = signs(scale).split(layer.weight)
    expected = sums if alpha is None else sums * alpha.reshape(-1, 1, 1)
    assert layer.bias is not None
    assert torch.equal(layer(x), expected + layer.bias.reshape(-1, 1, 1))


def test_pre_activations_are_exact_integers_times_one_number() -> None:
    layer = Conv2d(64, 8, 3, bias=False, input_quantizer=signs(),
                   weight_quantizer=signs("channel"))  # fmt: skip
    x = torch.randn(4, 64, 8, 8)
    _, alpha = signs("channel").split(layer.weight)
    assert alpha is not None
    integers = (layer(x) / alpha.reshape(-1, 1, 1)).round()
    assert torch.equal(layer(x), integers * alpha.reshape(-1, 1, 1))
    assert bool((integers == 0).any())


def test_linear_is_torch_on_signs() -> None:
    layer = Linear(7, 3, input_quantizer=signs(), weight_quantizer=signs("channel"))
    x = torch.randn(5, 2, 7)
    _, alpha = signs("channel").split(layer.weight)
    assert alpha is not None
    assert layer.bias is not None
    expected = F.linear(binary_sign(x), binary_sign(layer.weight)) * alpha + layer.bias
    assert torch.equal(layer(x), expected)


def test_input_scale_multiplies_the_output() -> None:
    layer = Linear(4, 2, bias=False, input_quantizer=signs("tensor"))
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), F.linear(binary_sign(x) * x.abs().mean(), layer.weight))


@pytest.mark.parametrize("quantizers", [{}, {"input_quantizer": signs()}])
def test_float_weights_stay_torch(quantizers: dict) -> None:
    layer = Linear(4, 2, **quantizers)
    x = torch.randn(3, 4)
    fed = binary_sign(x) if quantizers else x
    torch.testing.assert_close(layer(x), F.linear(fed, layer.weight, layer.bias))
    assert layer.latent_names == ()


def test_gradients_pass_through_both_quantizers() -> None:
    layer = Linear(2, 1, bias=False, input_quantizer=Sign(ste=ClippedIdentity()),
                   weight_quantizer=signs())  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-0.3, 2.0]]))
    x = torch.tensor([[0.5, -3.0]], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert x.grad.tolist() == [[-1.0, 0.0]]
    assert layer.weight.grad.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("make", [lambda **k: Linear(4, 2, **k), lambda **k: Conv2d(4, 2, 3, **k)])
def test_state_dict_is_torchs(make) -> None:
    layer = make(weight_quantizer=signs(), input_quantizer=signs())
    assert list(layer.state_dict()) == ["weight", "bias"]
    clone = copy.deepcopy(layer)
    assert clone.latent_names == ("weight",)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    clone.load_state_dict(torch.load(file))
    assert torch.equal(clone.latent, layer.latent)


def test_names_of_what_is_binary() -> None:
    layer = Conv2d(2, 3, 3, padding=1, pad_value=-1, weight_quantizer=signs(),
                   input_quantizer=signs())  # fmt: skip
    assert set(layer.weight_binary.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(layer.weight_binary, binary_sign(layer.latent))
    assert not layer.weight_binary.requires_grad
    text = repr(layer)
    assert "1-bit weights (latent float32), 1-bit inputs" in text
    assert "pad_value=-1" in text


def test_weight_binary_of_a_float_layer() -> None:
    with pytest.raises(ValueError, match=r"needs a layer with a weight_quantizer.*Sign\(\)"):
        Linear(2, 2).weight_binary  # noqa: B018


@pytest.mark.parametrize("bad", [Sign, "ste_sign", torch.sign])
def test_refuses_what_is_no_quantizer(bad: object) -> None:
    with pytest.raises(TypeError, match="needs weight_quantizer to be a quantizer object or None"):
        Linear(2, 2, weight_quantizer=bad)  # type: ignore[arg-type]


def test_refuses_a_channel_scale_on_the_input() -> None:
    with pytest.raises(
        ValueError, match=r"weights only, Sign.*scale='channel'.*allowed here: one scale"
    ):
        Conv2d(2, 2, 3, input_quantizer=signs("channel"))


@pytest.mark.parametrize("bad", [{"pad_value": 0.5}, {"pad_value": 1, "padding_mode": "reflect"}])
def test_refuses_a_pad_value(bad: dict) -> None:
    with pytest.raises(ValueError, match="needs pad_value 0, 1 or -1"):
        Conv2d(2, 2, 3, padding=1, **bad)
