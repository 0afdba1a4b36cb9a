"""Learned scales in packed files: thresholds of any sign, and the affine of the last layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from coarsegrad.deploy import pack, verify
from coarsegrad.errors import PackError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import runs_on_bits
from coarsegrad.quantizers import Sign
from coarsegrad.runtime import load


def learned(*alpha: float) -> Sign:
    """Return a sign whose learned scale has come to be ``alpha``."""
    quantizer = Sign(scale="learned", channels=len(alpha) if len(alpha) > 1 else None)
    assert quantizer.alpha is not None
    with torch.no_grad():
        quantizer.alpha.copy_(torch.tensor(alpha if len(alpha) > 1 else alpha[0]))
    return quantizer


def network(over_inputs: float, over_weights: float) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        Conv2d(1, 5, 3, weight_quantizer=learned(0.7, -0.7, 0.0, 2.0, -1.0)),
        nn.BatchNorm2d(5),
        nn.MaxPool2d(2),
        Conv2d(5, 6, 3, input_quantizer=learned(over_inputs),
               weight_quantizer=learned(over_weights)),
        nn.BatchNorm2d(6),
        nn.Flatten(),
        Linear(24, 3, input_quantizer=learned(-0.3), weight_quantizer=learned(1.0, -0.5, 0.25)),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()


@pytest.mark.parametrize("over_inputs", [0.5, -0.5])
@pytest.mark.parametrize("over_weights", [1.5, -1.5, 0.0])
def test_packed_as_trained(over_inputs: float, over_weights: float, tmp_path: Path) -> None:
    net = network(over_inputs, over_weights)
    x = torch.randint(-128, 128, (7, 1, 10, 10)) / 128
    path = tmp_path / "net.cgrad"
    pack(net, x, path)
    assert verify(net, path, x).differing_bits == 0
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(torch.from_numpy(load(path)(x.numpy())), expected)


def test_a_float_layer_behind_a_scaled_sign(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Linear(9, 4, bias=False, input_quantizer=learned(-2.0)))
    x = torch.randn(5, 9)
    pack(net, x, tmp_path / "net.cgrad")
    with torch.no_grad():
        expected = net(x)
    found = torch.from_numpy(load(tmp_path / "net.cgrad")(x.numpy()))
    torch.testing.assert_close(found, expected)


def test_a_learned_scale_on_a_sign_of_its_own_makes_floats(tmp_path: Path) -> None:
    net, x = nn.Sequential(learned(2.5), Linear(4, 2, weight_quantizer=Sign())), torch.randn(9, 4)
    program = pack(net, x, tmp_path / "net.cgrad")
    assert [op.op for op in program.ops] == ["sign", "affine", "linear", "affine"]
    assert not runs_on_bits(program, 2)
    verify(net, tmp_path / "net.cgrad", x)
    with torch.no_grad():
        expected = net(x)
    found = torch.from_numpy(load(tmp_path / "net.cgrad")(x.numpy()))
    torch.testing.assert_close(found, expected)


def pooled_first(over_inputs: float, over_weights: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        Conv2d(1, 5, 3, input_quantizer=learned(over_inputs),
               weight_quantizer=learned(1.0, 2.0, 3.0, 4.0, over_weights)),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(5),
        Conv2d(5, 3, 4, input_quantizer=Sign(), weight_quantizer=Sign()),
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("over_inputs", "over_weights"), [(1.0, -1.0), (-1.0, 1.0)])
def test_refuses_a_pool_on_sums_that_a_scale_reverses(
    over_inputs: float, over_weights: float, tmp_path: Path
) -> None:
    net = pooled_first(over_inputs, over_weights)
    with pytest.raises(PackError, match=r"1 pools ahead of .* and 0 has a negative scale"):
        pack(net, torch.randn(1, 1, 10, 10), tmp_path / "net.cgrad")


def test_a_pool_on_sums_with_positive_scales(tmp_path: Path) -> None:
    net, x = pooled_first(0.5, 2.0), torch.randn(4, 1, 10, 10)
    pack(net, x, tmp_path / "net.cgrad")
    assert verify(net, tmp_path / "net.cgrad", x).differing_bits == 0
