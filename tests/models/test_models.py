from __future__ import annotations

import pytest
import torch

from coarsegrad import models
from coarsegrad.nn import LatentWeight
from coarsegrad.optim import param_groups

ROWS = [("small_cnn", 93_088, 468), ("mlp", 268_800, 2 * (256 + 256 + 10))]


@pytest.mark.parametrize(("name", "one_bit", "floats"), ROWS)
def test_parameter_counts_and_shapes(name: str, one_bit: int, floats: int) -> None:
    net = getattr(models, name)()
    groups = {g["binary"]: sum(p.numel() for _, p in g["params"]) for g in param_groups(net)}
    assert groups == {True: one_bit, False: floats}
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_small_cnn_is_13_19_kib_as_larq_counts() -> None:
    assert round((93_088 / 8 + 468 * 4) / 1024, 2) == 13.19


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_all_weights_binary_without_bias(name: str) -> None:
    layers = [m for m in getattr(models, name)().modules() if isinstance(m, LatentWeight)]
    assert len(layers) >= 3
    assert all(m.weight_quantizer is not None and m.bias is None for m in layers)
    assert [m.input_quantizer is None for m in layers] == [True] + [False] * (len(layers) - 1)


def test_first_sums_of_small_cnn_are_exact() -> None:
    net = models.small_cnn()
    x = (torch.randint(0, 256, (64, 1, 28, 28)) - 128) / 128
    sums = net[0](x)
    assert torch.equal(sums, net[0].double()(x.double()).float())
    assert torch.equal(sums * 128, (sums * 128).round())


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_one_step_changes_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    net = getattr(models, name)()
    before = [p.detach().clone() for p in net.parameters()]
    opt = torch.optim.SGD(net.parameters(), lr=1.0)
    y = torch.randint(0, 10, (32,))
    torch.nn.functional.cross_entropy(net(torch.randn(32, 1, 28, 28)), y).backward()
    opt.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
