from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coarsegrad.errors import CalibrationError, ConvertError
from coarsegrad.nn import Conv2d, Linear, NormalizedBatchNorm, calibrate, convert
from coarsegrad.quantizers import QuantReLU, QuantWeight, Sign, half_gaussian_step


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5),
        Conv2d(6, 8, 3, input_quantizer=QuantReLU(2)), QuantReLU(4), nn.Flatten(),
        Linear(8 * 16, 3, input_quantizer=QuantReLU(2)),
    )  # fmt: skip


def test_each_step_fits_what_reaches_it_quantized() -> None:
    net = chain()
    x = 5 * torch.rand(64, 1, 8, 8)
    before = copy.deepcopy(net.state_dict())
    found = calibrate(net, x)
    assert list(found) == ["3", "4", "6"]
    # By hand, value by value; the norm on this batch, no dropout.
    twin = chain()
    twin[2].eval()
    y = twin[1](twin[0](x))
    for layer in (3, 4, 6):
        y = y.flatten(1) if layer == 6 else y
        quantizer = twin[4] if layer == 4 else twin[layer].input_quantizer
        quantizer.calibrate(y)
        got = net[4] if layer == 4 else net[layer].input_quantizer
        torch.testing.assert_close(got.step, quantizer.step)
        y = twin[layer](y)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"3.input_quantizer.step", "4.step", "6.input_quantizer.step"}
    assert all(module.training for module in net.modules())


def test_free_levels() -> None:
    net = chain()
    calibrate(net, torch.randn(64, 1, 8, 8), "lloyd-max")
    assert net[3].input_quantizer.step is None
    assert len(net[4].levels) == 16


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 1, 8, 8), "3"),
        (torch.full((4, 1, 8, 8), float("nan")), "needs finite inputs"),
        (torch.randn(64, 2, 8, 8), r"cannot use this batch \(\[64, 2, 8, 8\]\)"),
        (torch.randn(8, 1, 5, 5), "cannot use this batch"),
    ],
)
def test_what_fails_changes_nothing(x: torch.Tensor, message: str) -> None:
    net = chain()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(CalibrationError, match=message):
        calibrate(net, x)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(module.training for module in net.modules())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_without_a_quantized_relu() -> None:
    with pytest.raises(CalibrationError, match="needs a model with a QuantReLU"):
        calibrate(nn.Sequential(Linear(3, 4, input_quantizer=Sign())), torch.rand(5, 3))


def float_net(norms: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), *([nn.BatchNorm2d(8)] if norms else []), nn.ReLU(),
        nn.Conv2d(8, 8, 3), *([nn.BatchNorm2d(8)] if norms else []), nn.ReLU(),
        nn.Conv2d(8, 8, 3), *([nn.BatchNorm2d(8)] if norms else []), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip


PRESETS = ["W1A1", "W1A2", "W2A2", "W4A4", "W8A8", "W1A32", "W32A2"]


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("precision", PRESETS)
def test_presets(precision: str, norms: bool) -> None:
    net = float_net(norms)
    x = torch.rand(32, 1, 8, 8)
    plan = convert(net, precision=precision, x=x)
    layers = [module for module in net.modules() if isinstance(module, (Conv2d, Linear))]
    assert len(layers) == 2
    weights, inputs = (int(part) for part in precision[1:].split("A"))
    for layer in layers:
        w, a = layer.weight_quantizer, layer.input_quantizer
        assert (32 if w is None else w.bits, 32 if a is None else a.bits) == (weights, inputs)
        assert w is None or isinstance(w, Sign if weights == 1 else QuantWeight)
        if isinstance(a, QuantReLU):
            assert a.step.item() != pytest.approx(half_gaussian_step(inputs, "round"))
    assert ("step 0." in str(plan)) == (inputs in (2, 4, 8))
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(x).square().sum().backward()
    optimizer.step()
    assert torch.isfinite(net(x)).all()
    moved = [k for k, v in net.state_dict().items() if k.endswith("weight") and k in before]
    assert any(not torch.equal(net.state_dict()[k], before[k]) for k in moved)
    plan.undo()
    assert [type(module) for module in net] == [type(module) for module in float_net(norms)]


@pytest.mark.parametrize("norms", [True, False])
def test_eight_bits_keep_a_trained_network(norms: bool) -> None:
    net, x = float_net(norms), torch.rand(200, 1, 8, 8)
    for _ in range(60):
        net(x)
    net.eval()
    expected = net(x)
    for precision, error in (("W8A8", 0.05), ("W4A4", 0.4)):
        plan = convert(net, precision=precision, x=x)
        assert ((net(x) - expected).norm() / (expected - expected.mean(0)).norm()).item() < error
        plan.undo()
    torch.testing.assert_close(net(x), expected)


def test_without_a_batch_the_step_is_that_of_the_normal_law() -> None:
    net = float_net(True)
    convert(net, precision="W1A2")
    assert net[3].input_quantizer.step.item() == pytest.approx(half_gaussian_step(2, "round"))


def test_a_batch_that_fails_undoes_the_conversion() -> None:
    net = float_net(True)
    before = copy.deepcopy(net.state_dict())
    for x in (torch.zeros(0, 1, 8, 8), torch.full((4, 1, 8, 8), float("nan"))):
        with pytest.raises(ConvertError, match="convert cannot calibrate on x"):
            convert(net, precision="W4A4", x=x)
    assert [type(module) for module in net] == [type(module) for module in float_net(True)]
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_refused_arguments() -> None:
    with pytest.raises(ConvertError, match="needs a name such as 'W1A2'"):
        convert(float_net(True), precision="W9A9")
    with pytest.raises(ConvertError, match="needs precision or quantizers"):
        convert(float_net(True), Sign(), precision="W1A1")
    with pytest.raises(ConvertError, match="for both"):
        convert(float_net(True), precision="W32A32")


def test_normalized_batch_norm_is_a_norm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 4), NormalizedBatchNorm(4), nn.ReLU(), nn.Linear(4, 4, bias=False),
        NormalizedBatchNorm(4), nn.ReLU(), nn.Linear(4, 2),
    )  # fmt: skip
    plan = convert(net, precision="W1A1")
    assert [change.name for change in plan.changes] == ["3", "2"]
