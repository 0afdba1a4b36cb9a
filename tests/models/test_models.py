from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from coarsegrad import models
from coarsegrad.models.lenet5 import LeNetLayout
from coarsegrad.nn import LatentWeight, NormalizedBatchNorm
from coarsegrad.optim import param_groups
from coarsegrad.quantizers import QuantReLU, Sign
from coarsegrad.ste import ClippedReLU, CoarseDerivative, Triangle

DIGIT, COLOUR = (1, 28, 28), (3, 32, 32)
VGG = 9 * 128 * (128 + 2 * 128 + 4 * 128 + 8 * 128 + 16 * 128)  # conv 2 to 6
VGG_ENDS = 27 * 128 + 8192 * 10
VGG_NORMS = 2 * 2 * (128 + 256 + 512)

# Written out from the plans: 9 inputs x outputs a 3x3 convolution.
CNN7 = 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128 + 128 * 128) + 1152 * 2
CNN7_16 = 9 * (16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 576 * 2
VGG11_16 = 9 * (48 + 512 + 2048 + 64 * 64 + 64 * 128 + 3 * 128 * 128) + 1280
RESNET_8 = 9 * (6 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32)
WIDE = {"layout": "20-50-500"}

# model, options, shape of an image, 1-bit parameters, float parameters
ROWS: list[tuple[str, dict[str, Any], tuple[int, ...], int, int]] = [
    ("small_cnn", {}, DIGIT, 93_088, 468),
    ("mlp", {}, DIGIT, 268_800, 2 * (256 + 256 + 10)),
    ("mlp", {"width": 16}, DIGIT, 16 * (784 + 16 + 10), 2 * (16 + 16 + 10)),
    ("lenet5", {}, DIGIT, 61_470, 472),
    ("lenet5", {"float_ends": True}, DIGIT, 60_480, 150 + 850 + 452),
    ("lenet5", {"precision": "W1A2"}, DIGIT, 61_470, 20),
    ("lenet5", {"precision": "W1A2", "float_ends": True}, DIGIT, 60_480, 150 + 850),
    ("lenet5", {"precision": "W1A32"}, DIGIT, 61_470, 472),
    ("lenet5", {"precision": "W32A2"}, DIGIT, 0, 61_480),
    ("lenet5", {"precision": "W32A4", **WIDE}, DIGIT, 0, 430_510),
    ("lenet5", {"precision": "W2A2", **WIDE}, DIGIT, 430_500, 20),
    ("lenet5", WIDE, DIGIT, 430_500, 2 * (20 + 50 + 500 + 10)),
    ("vgg_small", {}, COLOUR, VGG, VGG_ENDS + 10 + VGG_NORMS),
    ("vgg_small", {"float_ends": False}, COLOUR, VGG + VGG_ENDS, VGG_NORMS + 20),
    ("cnn7", {}, DIGIT, 0, CNN7 + 20),
    ("cnn7", {"precision": "W1A2", "width": 16}, DIGIT, CNN7_16, 20),
    ("vgg11", {}, COLOUR, 0, 9_217_728 + 5_130),
    ("vgg11", {"precision": "W1A1", "width": 16}, COLOUR, VGG11_16, 2 * (16 + 32 + 128 + 512) + 20),
    ("resnet20", {}, COLOUR, 0, 268_336 + 10),
    ("resnet20", {"precision": "W4A4", "width": 8}, COLOUR, 216 + RESNET_8 + 320, 20),
    ("vgg_small", {"width": 32}, COLOUR, VGG // 16, 27 * 32 + 2048 * 10 + 10 + VGG_NORMS // 4),
]
NARROW = ("vgg_small", "cnn7", "vgg11", "resnet20")
SMALL = [(row[0], {**row[1], **({"width": 8} if row[0] in NARROW else {})}, row[2])
         for row in ROWS]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "shape", "one_bit", "floats"), ROWS)
def test_parameter_counts_and_shapes(
    name: str, options: dict[str, Any], shape: tuple[int, ...], one_bit: int, floats: int
) -> None:
    net = getattr(models, name)(**options)
    groups = {g["binary"]: sum(p.numel() for _, p in g["params"]) for g in param_groups(net)}
    assert groups == {kind: n for kind, n in ((True, one_bit), (False, floats)) if n}
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
    if options.get("precision", "").endswith("A32"):
        with pytest.raises(ValueError, match="ste has no effect; leave it out, or choose A1 to A8"):
            layers_of(name, {"ste": Triangle(), **options})
        return
    given: CoarseDerivative = ClippedReLU(300.0)  # a ceiling of its own: for_top keeps the object
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


@pytest.mark.parametrize("precision", ["W1A2", "W32A2", "W4A4", "W1A8"])
def test_each_quantized_relu_of_lenet_sees_normalized_numbers(precision: str) -> None:
    """The norm before it has no parameters, so that the step for N(0, 1) stays the best one."""
    for layout in get_args(LeNetLayout):
        net = models.lenet5(precision=precision, layout=layout)
        activated = [i for i, layer in enumerate(net) if getattr(layer, "input_quantizer", None)]
        assert len(activated) == len([m for m in net if isinstance(m, LatentWeight)]) - 1
        for i in activated:
            before = net[i - 1] if not isinstance(net[i - 1], nn.Flatten) else net[i - 2]
            assert isinstance(before, NormalizedBatchNorm)
            assert isinstance(net[i].input_quantizer, QuantReLU)
            assert net[i].input_quantizer.bits == int(precision.partition("A")[2])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"layout": "20-50"}, "layout to be one of 6-16-120-84, 20-50-500, got '20-50'. Did you mean"),
    ({"precision": "W1A16"}, "precision needs a name such as 'W1A2'"),
    ({"precision": "W32A2", "float_ends": True}, "float weights throughout .* choose W1 to W8"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_lenet_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.lenet5(**options)


def test_a_seeds_initial_weights_of_lenet_stay() -> None:
    """The classifier's weights were drawn first before there were layouts, and still are."""
    torch.manual_seed(3)
    net = models.lenet5()
    torch.manual_seed(3)
    assert torch.equal(net[11].weight, nn.Linear(84, 10, bias=False).weight)
    assert torch.equal(net[0].weight, nn.Conv2d(1, 6, 5, bias=False).weight)


@pytest.mark.parametrize(("name", "layers"), [("vgg11", 9), ("resnet20", 20), ("cnn7", 7)])
def test_the_depth_is_the_one_in_the_name(name: str, layers: int) -> None:
    assert len(layers_of(name, {"width": 4})) == layers


def test_resnets_shortcuts_subsample_and_add_zeros() -> None:
    net = models.resnet20(width=4).eval()
    halving = net[4]
    with torch.no_grad():
        for parameter in halving.parameters():
            parameter.zero_()
        x = torch.randn(2, 4, 32, 32)
        y = halving(x)
    assert y.shape == (2, 8, 16, 16)
    assert torch.equal(y[:, 2:6], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 6:].any()


@pytest.mark.parametrize("precision", ["W32A4", "W1A1", "W1A32"])
def test_the_activation_before_resnets_mean_is_that_of_the_others(precision: str) -> None:
    net = models.resnet20(width=4, precision=precision)
    kinds = {"W32A4": QuantReLU, "W1A1": Sign, "W1A32": nn.ReLU}
    before_mean = next(i for i, m in enumerate(net) if isinstance(m, nn.AdaptiveAvgPool2d)) - 1
    assert isinstance(net[before_mean], kinds[precision])
    assert net[-1 if precision == "W32A4" else -2].input_quantizer is None


def test_cnn7s_features_lie_in_the_whole_plane() -> None:
    torch.manual_seed(0)
    net = models.cnn7(width=4)
    x = torch.randn(64, 1, 28, 28)
    features, cosines = net[:-1](x), net(x)
    assert features.shape == (64, 2)
    directions = net[-1].weight / net[-1].weight.norm(dim=1, keepdim=True)
    expected = features @ directions.T / features.norm(dim=1, keepdim=True)
    assert torch.allclose(cosines, expected, atol=1e-5)
    assert len(features.unique()) == features.numel()
