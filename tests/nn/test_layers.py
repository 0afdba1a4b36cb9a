from __future__ import annotations

import copy
import io

import pytest
import torch
from torch.nn import functional as F

from coarsegrad.nn import Conv2d, Linear, binarize_latents_
from coarsegrad.quantizers import (
    DoReFa,
    Heaviside,
    Quantizer,
    QuantWeight,
    Sign,
    Ternary,
    binary_sign,
)
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


def test_refuses_a_pad_value_that_the_input_quantizer_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"pad_value 0 or a level of its input_quantizer.*got -1"):
        Conv2d(2, 2, 3, padding=1, pad_value=-1, input_quantizer=Heaviside())
    assert Conv2d(2, 2, 3, padding=1, pad_value=1, input_quantizer=Heaviside()).pad_value == 1


def test_unit_steps_and_ternary_weights() -> None:
    layer = Linear(3, 2, input_quantizer=Heaviside(),
                   weight_quantizer=Ternary(threshold=0.5, scale="channel"))  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.75, -0.25, -1.25], [0.1, 0.2, 0.3]]))
        assert layer.bias is not None
        layer.bias.fill_(0.5)
    # The second row has no level but 0.
    assert layer.weight_levels.tolist() == [[1, 0, -1], [0, 0, 0]]
    assert layer(torch.tensor([[0.0, 3.0, 2.0], [1.0, 9.0, 0.0]])).tolist() == [
        [-0.5, 0.5], [1.5, 0.5],
    ]  # fmt: skip
    assert "ternary weights (latent float32), 1-bit inputs" in repr(layer)


@pytest.mark.parametrize("channels", [None, 2])
def test_learned_scales_on_both_sides(channels: int | None) -> None:
    layer = Linear(3, 2, bias=False, input_quantizer=Sign(scale="learned", initial=2.0),
                   weight_quantizer=Sign(scale="learned", channels=channels))  # fmt: skip
    fed = torch.randn(5, 3)
    sums = F.linear(binary_sign(fed), binary_sign(layer.weight)).detach()
    upstream = torch.randn(5, 2)
    y = layer(fed)
    y.backward(upstream)
    assert torch.equal(y, 2 * sums)
    over_inputs, over_weights = layer.get_parameter("input_quantizer.alpha"), layer.get_parameter(
        "weight_quantizer.alpha"
    )  # fmt: skip
    assert over_inputs.grad is not None
    assert over_weights.grad is not None
    torch.testing.assert_close(over_inputs.grad, (upstream * sums).sum())
    per_channel = 2 * (upstream * sums).sum(0)
    expected = per_channel.sum() if channels is None else per_channel
    torch.testing.assert_close(over_weights.grad, expected)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, 2 * upstream.T @ binary_sign(fed))


def test_a_learned_scale_is_in_the_state_and_in_copies() -> None:
    layer = Conv2d(2, 3, 3, weight_quantizer=Sign(scale="learned", channels=3))
    assert list(layer.state_dict()) == ["weight", "bias", "weight_quantizer.alpha"]
    clone = copy.deepcopy(layer)
    with torch.no_grad():
        layer.get_parameter("weight_quantizer.alpha").fill_(-3.0)
    assert clone.get_parameter("weight_quantizer.alpha").tolist() == [1, 1, 1]
    clone.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(clone(x), layer(x))


def test_a_learned_scale_lives_where_the_weight_lives() -> None:
    layer = Linear(2, 2, input_quantizer=Sign(scale="learned"), dtype=torch.float64, device="meta",
                   weight_quantizer=Sign(scale="learned", channels=2))  # fmt: skip
    assert {(p.dtype, p.device.type) for p in layer.parameters()} == {(torch.float64, "meta")}


def test_refuses_a_scale_of_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"Linear has 3 output channels.*channels=3"):
        Linear(2, 3, weight_quantizer=Sign(scale="learned", channels=2))


@pytest.mark.parametrize(
    "quantizer",
    [Sign(scale="learned", channels=2), Ternary(), Heaviside(scale="channel")],
    ids=repr,
)
def test_refuses_weight_quantizers_on_the_input(quantizer: Quantizer) -> None:
    with pytest.raises(ValueError, match=r"is for weights only.*allowed here: one scale"):
        Linear(2, 2, input_quantizer=quantizer)


class PlainSign(torch.nn.Module):
    """A quantizer of a user's own: what the protocol asks for, and no further fact."""

    levels: tuple[float, ...] = (-1.0, 1.0)
    bits: int = 1
    ste = Identity()

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return binary_sign(x), None


def test_a_quantizer_of_ones_own_needs_no_further_facts() -> None:
    layer = Linear(4, 2, bias=False, input_quantizer=PlainSign(), weight_quantizer=PlainSign())
    x = torch.randn(3, 4)
    assert torch.equal(layer(x), F.linear(binary_sign(x), binary_sign(layer.weight)))


def test_weight_binary_of_ternary_weights() -> None:
    layer = Linear(2, 2, weight_quantizer=Ternary())
    with pytest.raises(ValueError, match=r"needs 1-bit weights, got ternary.*use weight_levels"):
        layer.weight_binary  # noqa: B018


def test_weight_levels_of_a_float_layer() -> None:
    with pytest.raises(ValueError, match=r"weight_levels needs a layer with a weight_quantizer"):
        Linear(2, 2).weight_levels  # noqa: B018


@pytest.mark.parametrize("quantizer", [Ternary(), Heaviside()], ids=repr)
def test_binarize_latents_refuses_other_levels_by_name(quantizer: Quantizer) -> None:
    net = torch.nn.Sequential(
        Linear(2, 2, weight_quantizer=Sign()), Linear(2, 2, weight_quantizer=quantizer)
    )
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"levels \(-1, 1\), but 1 has (ternary|1-bit) weights"):
        binarize_latents_(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("quantizer", [Sign(), Sign(scale="channel"), QuantWeight(4), DoReFa(2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_channel_keeps_the_memory_layout(
    quantizer: Quantizer, layout: torch.memory_format
) -> None:
    """torch tells the layouts of one-channel weights apart by the stride of that axis alone."""
    layer = Conv2d(1, 6, 3, bias=False, weight_quantizer=quantizer).to(memory_format=layout)
    y = layer(torch.rand(2, 1, 8, 8))
    plain = F.conv2d(torch.rand(2, 1, 8, 8), layer.weight)
    assert y.stride() == plain.stride()


def test_few_channels_are_scaled_alike_in_both_layouts() -> None:
    """In channels_last the scale is repeated along rows; the products are the same."""
    torch.manual_seed(0)
    layer = Conv2d(3, 6, 3, weight_quantizer=Sign(scale="channel"), input_quantizer=Sign())
    x = torch.randn(2, 3, 7, 9)
    plain = layer(x)
    other = layer(x.contiguous(memory_format=torch.channels_last))
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, other)
    assert torch.equal(layer(x[0]), plain[0])
