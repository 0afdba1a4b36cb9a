"""The float twin: torch's own layers, the same weights, ReLU where a sign was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coarsegrad import models
from coarsegrad.models import float_twin
from coarsegrad.nn import Conv2d, LatentWeight, Linear, NormalizedBatchNorm
from coarsegrad.optim import param_groups
from coarsegrad.quantizers import DoReFa, Quantizer, QuantReLU, Sign

MODELS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("small_cnn", {}, (1, 28, 28)),
    ("mlp", {"width": 16}, (1, 28, 28)),
    ("lenet5", {}, (1, 28, 28)),
    ("lenet5", {"float_ends": True}, (1, 28, 28)),
    ("vgg_small", {"width": 8}, (3, 32, 32)),
]


def forward(net: nn.Sequential, x: Tensor) -> Tensor:
    """The float network, written out from the binary one: F.relu for input quantizers."""
    for layer in net:
        if isinstance(layer, Conv2d):
            x = x if layer.input_quantizer is None else F.relu(x)
            sides = [p for p in reversed(layer.padding) for _ in range(2)]  # type: ignore[call-overload]
            x = F.conv2d(F.pad(x, sides, value=layer.pad_value), layer.weight, layer.bias)
        elif isinstance(layer, Linear):
            x = x if layer.input_quantizer is None else F.relu(x)
            x = F.linear(x, layer.weight, layer.bias)
        else:
            x = layer(x)
    return x


@pytest.mark.parametrize(("name", "options", "shape"), MODELS)
def test_every_model_has_one(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = getattr(models, name)(**options)
    twin = float_twin(net)
    assert not [m for m in twin.modules() if isinstance(m, (LatentWeight, Quantizer))]
    relus = sum(isinstance(m, nn.ReLU) for m in twin.modules())
    assert relus == sum(isinstance(m, LatentWeight) for m in net.modules()) - 1
    assert [p.numel() for p in twin.parameters()] == [p.numel() for p in net.parameters()]
    assert [group["binary"] for group in param_groups(twin)] == [False]
    x = torch.randn(4, *shape)
    expected = forward(net, x)
    assert torch.allclose(twin(x), expected, atol=1e-4)
    assert twin(x).std() > 0


def test_the_network_stays_as_it_was_and_shares_nothing() -> None:
    net = models.lenet5()
    text, before = str(net), {key: value.clone() for key, value in net.state_dict().items()}
    twin = float_twin(net)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert str(net) == text
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def one(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return float_twin(layer)(x)


X = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(0))
CONVOLUTIONS: list[dict[str, Any]] = [
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "pad_value": 1},
    {"padding": (2, 1), "groups": 2, "bias": False},
    {"padding": 1, "padding_mode": "circular"},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_every_option_of_a_convolution(options: dict[str, Any]) -> None:
    layer = Conv2d(4, 6, 3, **options, input_quantizer=Sign(), weight_quantizer=Sign())
    options = {key: value for key, value in options.items() if key != "pad_value"}
    plain = nn.Conv2d(4, 6, 3, **options)
    plain.load_state_dict(layer.state_dict())
    with torch.no_grad():
        assert torch.equal(one(layer, X), plain(F.relu(X)))


@pytest.mark.parametrize(
    ("signs", "pad", "cells"), [(True, -1, 0), (True, 1, 1), (False, -1, -1), (False, 1, 1)]
)
@pytest.mark.parametrize("padding", [(2, 1), "same"])
def test_padded_cells(signs: bool, pad: int, cells: int, padding: Any) -> None:
    layer = Conv2d(4, 6, (5, 3), padding=padding, pad_value=pad,
                   input_quantizer=Sign() if signs else None, weight_quantizer=Sign())  # fmt: skip
    x = F.relu(X) if signs else X
    padded = F.pad(x, (1, 1, 2, 2), value=cells)
    with torch.no_grad():
        expected = F.conv2d(padded, layer.weight, layer.bias)
        assert torch.allclose(one(layer, X), expected, atol=1e-5)


def test_a_quantizer_alone_is_a_relu() -> None:
    assert torch.equal(one(Sign(), X), F.relu(X))
    assert torch.equal(one(nn.Sequential(nn.Identity(), Sign()), X), F.relu(X))


def test_a_quantized_relu_is_a_relu() -> None:
    inputs = QuantReLU(2)
    net = nn.Sequential(Linear(4, 3, input_quantizer=inputs, weight_quantizer=DoReFa(4)),
                        NormalizedBatchNorm(3), inputs)  # fmt: skip
    twin, x = float_twin(net).eval(), torch.randn(5, 4)
    assert [type(module) for module in twin] == [nn.Sequential, NormalizedBatchNorm, nn.ReLU]
    expected = twin[1](F.linear(x.relu(), net[0].weight, net[0].bias)).relu()
    assert torch.equal(twin(x), expected)


def test_a_layer_used_twice_stays_one() -> None:
    layer = Linear(3, 3, input_quantizer=Sign(), weight_quantizer=Sign())
    twin = float_twin(nn.Sequential(layer, nn.BatchNorm1d(3), nn.Sequential(layer)))
    assert twin[2][0] is twin[0]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"conv": Conv2d(4, 4, 3, padding=1, weight_quantizer=Sign())})
        self.body["conv"].requires_grad_(False)
        self.nothing = None

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body["conv"](x)


def test_any_module_in_its_mode_dtype_and_with_frozen_weights() -> None:
    net = nn.Sequential(Residual(), Residual()).double().eval()
    twin = float_twin(net)
    assert type(twin[1].body["conv"]) is nn.Conv2d
    assert not any(module.training for module in twin.modules())
    assert twin(X.double()).dtype == torch.float64
    assert not any(parameter.requires_grad for parameter in twin.parameters())
