from __future__ import annotations

from typing import Any

import pytest
import torch

from coarsegrad import models
from coarsegrad.nn import LatentWeight
from coarsegrad.optim import param_groups
from coarsegrad.ste import Triangle

DIGIT, COLOUR = (1, 28, 28), (3, 32, 32)
VGG = 9 * 128 * (128 + 2 * 128 + 4 * 128 + 8 * 128 + 16 * 128)  # conv 2 to 6
VGG_ENDS = 27 * 128 + 8192 * 10
VGG_NORMS = 2 * 2 * (128 + 256 + 512)

# model, options, shape of an image, 1-bit parameters, float parameters
ROWS: list[tuple[str, dict[str, Any], tuple[int, ...], int, int]] = [
    ("small_cnn", {}, DIGIT, 93_088, 468),
    ("mlp", {}, DIGIT, 268_800, 2 * (256 + 256 + 10)),
    ("mlp", {"width": 16}, DIGIT, 16 * (784 + 16 + 10), 2 * (16 + 16 + 10)),
    ("lenet5", {}, DIGIT, 61_470, 472),
    ("lenet5", {"float_ends": True}, DIGIT, 60_480, 150 + 850 + 452),
    ("vgg_small", {}, COLOUR, VGG, VGG_ENDS + 10 + VGG_NORMS),
    ("vgg_small", {"float_ends": False}, COLOUR, VGG + VGG_ENDS, VGG_NORMS + 20),
    ("vgg_small", {"width": 32}, COLOUR, VGG // 16, 27 * 32 + 2048 * 10 + 10 + VGG_NORMS // 4),
]
SMALL = [(row[0], {**row[1], **({"width": 8} if row[0] == "vgg_small" else {})}, row[2])
         for row in ROWS]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "shape", "one_bit", "floats"), ROWS)
def test_parameter_counts_and_shapes(
    name: str, options: dict[str, Any], shape: tuple[int, ...], one_bit: int, floats: int
) -> None:
    net = getattr(models, name)(**options)
    groups = {g["binary"]: sum(p.numel() for _, p in g["params"]) for g in param_groups(net)}
    assert groups == {True: one_bit, False: floats}
    assert net(torch.zeros(2, *shape)).shape == (2, 10)


def test_small_cnn_is_13_19_kib_as_larq_counts() -> None:
    assert round((93_088 / 8 + 468 * 4) / 1024, 2) == 13.19


def layers_of(name: str, options: dict[str, Any]) -> list[LatentWeight]:
    net = getattr(models, name)(**options)
    return [module for module in net.modules() if isinstance(module, LatentWeight)]


@pytest.mark.parametrize(
    ("name", "options"),
    [("small_cnn", {}), ("mlp", {}), ("lenet5", {}), ("vgg_small", {"float_ends": False})],
)
def test_all_weights_binary_without_bias(name: str, options: dict[str, Any]) -> None:
    layers = layers_of(name, options)
    assert len(layers) >= 3
    assert all(m.weight_quantizer is not None and m.bias is None for m in layers)
    assert [m.input_quantizer is None for m in layers] == [True] + [False] * (len(layers) - 1)


@pytest.mark.parametrize(("name", "options"), [("vgg_small", {}), ("lenet5", {"float_ends": True})])
def test_float_ends(name: str, options: dict[str, Any]) -> None:
    layers = layers_of(name, options)
    between = [False] * (len(layers) - 2)
    assert [m.weight_quantizer is None for m in layers] == [True, *between, True]
    assert [m.bias is None for m in layers] == [True] * (len(layers) - 1) + [False]
    assert [m.input_quantizer is None for m in layers] == [True] + [False] * (len(layers) - 1)


@pytest.mark.parametrize(("name", "options", "shape"), SMALL)
def test_the_activations_coarse_derivative_is_the_one_given(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    given = Triangle()
    for layer in layers_of(name, {"ste": given, **options}):
        assert layer.input_quantizer is None or layer.input_quantizer.ste is given
        assert layer.weight_quantizer is None or layer.weight_quantizer.ste is not given


def test_lenets_padding_continues_the_black_background() -> None:
    net = models.lenet5().eval()
    black = net[0](torch.full((1, 1, 28, 28), -1.0))
    assert black.shape == (1, 6, 28, 28)
    assert torch.equal(black, black[:, :, :1, :1].expand_as(black))


def test_first_sums_of_small_cnn_are_exact() -> None:
    net = models.small_cnn()
    x = (torch.randint(0, 256, (64, 1, 28, 28)) - 128) / 128
    sums = net[0](x)
    assert torch.equal(sums, net[0].double()(x.double()).float())
    assert torch.equal(sums * 128, (sums * 128).round())


@pytest.mark.parametrize(("name", "options", "shape"), SMALL)
def test_one_step_changes_every_parameter(
    name: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net = getattr(models, name)(**options)
    before = [p.detach().clone() for p in net.parameters()]
    opt = torch.optim.SGD(net.parameters(), lr=1.0)
    y = torch.randint(0, 10, (32,))
    torch.nn.functional.cross_entropy(net(torch.randn(32, *shape)), y).backward()
    opt.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
