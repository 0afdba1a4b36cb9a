from __future__ import annotations

import copy

import pytest
import torch

from coarsegrad.models import small_cnn
from coarsegrad.nn import Linear
from coarsegrad.optim import BAMSProd, Split, param_groups
from coarsegrad.quantizers import Sign


def test_routes_every_parameter_once() -> None:
    net = small_cnn()
    binary, real = param_groups(net, binary={"lr": 1.0}, real={"lr": 2.0})
    assert (binary["binary"], binary["lr"], len(binary["params"])) == (True, 1.0, 5)
    assert (real["binary"], real["lr"], len(real["params"])) == (False, 2.0, 10)
    ids = {id(p) for g in (binary, real) for _, p in g["params"]}
    assert ids == {id(p) for p in net.parameters()}


def test_survives_deepcopy() -> None:
    assert [len(g["params"]) for g in param_groups(copy.deepcopy(small_cnn()))] == [5, 10]


def test_bias_of_a_binary_layer_is_real() -> None:
    layer = Linear(2, 2, weight_quantizer=Sign())
    binary, real = param_groups(layer)
    assert binary["params"][0][0] == "weight"
    assert binary["params"][0][1] is layer.weight
    assert real["params"][0][1] is layer.bias


def test_learned_scales_are_real() -> None:
    layer = Linear(3, 2, bias=False, input_quantizer=Sign(scale="learned"),
                   weight_quantizer=Sign(scale="learned", channels=2))  # fmt: skip
    binary, real = param_groups(layer)
    assert [name for name, _ in binary["params"]] == ["weight"]
    assert [name for name, _ in real["params"]] == [
        "input_quantizer.alpha", "weight_quantizer.alpha",
    ]  # fmt: skip


def test_a_learned_scale_is_stepped_and_decayed_as_a_real_parameter() -> None:
    layer = Linear(3, 2, bias=False, weight_quantizer=Sign(scale="learned", initial=3.0))
    alpha = layer.get_parameter("weight_quantizer.alpha")
    optimizer = Split(
        layer,
        binary=(BAMSProd, {"lr": 0.1}),
        real=(torch.optim.SGD, {"lr": 0.5, "weight_decay": 0.1}),
    )
    layer(torch.ones(1, 3)).sum().backward()
    assert alpha.grad is not None
    gradient = float(alpha.grad)
    assert gradient == float(layer.weight_levels.sum())
    optimizer.step()
    # The box [-1, 1] is for latent weights.
    assert float(layer.weight.detach().abs().max()) <= 1
    assert alpha.item() == pytest.approx(3 - 0.5 * (gradient + 0.1 * 3))


def test_empty_and_frozen() -> None:
    assert [g["binary"] for g in param_groups(torch.nn.Linear(2, 2))] == [False]
    layer = Linear(2, 2, bias=False, weight_quantizer=Sign())
    layer.weight.requires_grad_(False)
    assert param_groups(layer) == []


def test_shared_weight_is_listed_once() -> None:
    a, b = (Linear(2, 2, bias=False, weight_quantizer=Sign()) for _ in range(2))
    b.weight = a.weight
    (group,) = param_groups(torch.nn.Sequential(a, b))
    assert len(group["params"]) == 1


def test_refuses_a_weight_that_is_latent_and_real() -> None:
    a, b = Linear(2, 2, bias=False, weight_quantizer=Sign()), torch.nn.Linear(2, 2, bias=False)
    b.weight = a.weight
    with pytest.raises(
        ValueError, match=r"0.weight is a latent weight.*real parameter as 1.weight"
    ):
        param_groups(torch.nn.Sequential(a, b))
