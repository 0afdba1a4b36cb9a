"""What all quantizers with a scale share: facts, refusals, and the learned scale."""

from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.quantizers import Heaviside, Sign, Ternary
from coarsegrad.ste import ClippedIdentity, Triangle

MAKERS = [Sign, Heaviside, Ternary]
makers = pytest.mark.parametrize("make", MAKERS, ids=lambda m: m.__name__)


@makers
def test_a_learned_scale_is_a_parameter(make) -> None:
    quantizer = make(scale="learned", initial=0.25)
    assert [(n, p.shape, p.requires_grad) for n, p in quantizer.named_parameters()] == [
        ("alpha", (), True)
    ]
    assert quantizer.state_dict()["alpha"] == 0.25
    assert make(scale="learned", channels=3).alpha.tolist() == [1, 1, 1]
    assert list(make(scale="tensor").parameters()) == []


@pytest.mark.parametrize("alpha", [0.5, 0.0, -2.0])
@makers
def test_gradients_of_a_learned_scale(make, alpha: float) -> None:
    # A plain factor: dL/dalpha = <dL/dq, levels>, and dL/dx = alpha g'(x) dL/dq, also below 0.
    quantizer = make(ste=Triangle(), scale="learned")
    with torch.no_grad():
        quantizer.alpha.fill_(alpha)
    x = torch.tensor([-0.9, -0.3, 0.4, 0.8], requires_grad=True)
    upstream = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    y = quantizer(x)
    y.backward(upstream)
    levels = quantizer.split(x.detach())[0]
    assert torch.equal(y, alpha * levels)
    assert quantizer.alpha.grad == (upstream * levels).sum()
    assert torch.equal(x.grad, upstream * alpha * Triangle().derivative(x.detach()))


@makers
def test_gradients_of_a_scale_per_channel(make) -> None:
    quantizer = make(scale="learned", channels=2)
    x = torch.tensor([[-0.9, 0.2], [0.4, 0.8]])
    upstream = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    quantizer(x).backward(upstream)
    assert torch.equal(quantizer.alpha.grad, (upstream * quantizer.split(x)[0]).sum(1))


@pytest.mark.parametrize("channels", [None, 4])
@makers
def test_a_learned_scale_keeps_the_inputs_dtype(make, channels: int | None) -> None:
    x = torch.randn(4, 3, dtype=torch.float16)
    assert make(scale="learned", channels=channels)(x).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        # weights_only, data_dependent, channels
        ({"scale": "none"}, (False, False, None)),
        ({"scale": "tensor"}, (False, True, None)),
        ({"scale": "channel"}, (True, True, None)),
        ({"scale": "learned"}, (False, False, None)),
        ({"scale": "learned", "channels": 7}, (True, False, 7)),
    ],
)
@makers
def test_facts_of_a_scale(make, arguments: dict, facts: tuple) -> None:
    fixed = {"threshold": 0.1} if make is Ternary else {}
    quantizer = make(**arguments, **fixed)
    got = (quantizer.weights_only, quantizer.data_dependent, quantizer.channels)
    assert got == facts
    assert all(f"{name}={value!r}" in repr(quantizer) for name, value in arguments.items())


@makers
def test_refuses_a_class_instead_of_an_instance(make) -> None:
    with pytest.raises(
        TypeError, match=rf"{make.__name__} needs ste to be an instance.*ClippedIdentity\(\)"
    ):
        make(ste=ClippedIdentity)


@makers
def test_refuses_an_unknown_scale(make) -> None:
    with pytest.raises(
        ValueError,
        match=r"one of none, tensor, channel, learned, got 'lerned'. Did you mean 'learned'\?",
    ):
        make(scale="lerned")


@pytest.mark.parametrize("bad", [{"channels": 3}, {"initial": 2.0}])
@makers
def test_refuses_what_only_a_learned_scale_has(make, bad: dict) -> None:
    with pytest.raises(ValueError, match="channels and initial only with scale='learned'"):
        make(scale="tensor", **bad)


@pytest.mark.parametrize("channels", [0, -1, 2.0, True])
@makers
def test_refuses_a_number_of_channels(make, channels: object) -> None:
    with pytest.raises(ValueError, match="needs channels to be the weight's number of output"):
        make(scale="learned", channels=channels)


@pytest.mark.parametrize("initial", [0.0, -1.0, math.inf, math.nan])
@makers
def test_refuses_an_initial_scale(make, initial: float) -> None:
    with pytest.raises(ValueError, match="needs a finite initial scale > 0"):
        make(scale="learned", initial=initial)


@makers
def test_refuses_integers(make) -> None:
    with pytest.raises(TypeError, match=r"floating point tensor, got torch.int64"):
        make()(torch.tensor([1, 2]))
