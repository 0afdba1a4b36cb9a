from __future__ import annotations

import pytest
import torch

from coarsegrad.quantizers import Quantizer, Sign
from coarsegrad.ste import ClippedIdentity, Identity, Triangle

ROWS = [
    # quantizer, input, output, gradient of the output's sum
    (Sign(), [-2.0, -0.0, 0.0, 0.5], [-1, 1, 1, 1], [1, 1, 1, 1]),
    (Sign(ste=ClippedIdentity()), [-2.0, -1.0, 0.0, 1.5], [-1, -1, 1, 1], [0, 1, 1, 0]),
    (Sign(ste=Triangle()), [-0.5, 0.0], [-1, 1], [1, 2]),
    # scales: a constant of the backward pass
    (Sign(scale="tensor"), [-3.0, 1.0], [-2, 2], [2, 2]),
    (Sign(scale="channel"), [[-3.0, 1.0], [0.5, 0.0]], [[-2, 2], [0.25, 0.25]],
     [[2, 2], [0.25, 0.25]]),
]  # fmt: skip


@pytest.mark.parametrize(("quantizer", "inputs", "output", "gradient"), ROWS)
def test_rows(quantizer: Sign, inputs: list, output: list, gradient: list) -> None:
    x = torch.tensor(inputs, requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert y.tolist() == torch.tensor(output, dtype=torch.float32).tolist()
    assert x.grad is not None
    assert x.grad.tolist() == torch.tensor(gradient, dtype=torch.float32).tolist()


def test_nan_becomes_plus_one_as_in_the_packed_file() -> None:
    assert Sign()(torch.tensor([torch.nan])).tolist() == [1.0]


def test_split_of_a_convolution_weight() -> None:
    weight = torch.tensor([-1.0, 2.0, 3.0, -6.0]).reshape(2, 2, 1, 1)
    signs, scale = Sign(scale="channel").split(weight)
    assert signs.flatten().tolist() == [-1, 1, 1, -1]
    assert scale is not None
    assert scale.tolist() == [1.5, 4.5]


def test_facts() -> None:
    quantizer = Sign(ste=Identity())
    assert isinstance(quantizer, Quantizer)
    assert (quantizer.levels, quantizer.bits, quantizer.ste) == ((-1.0, 1.0), 1, Identity())
    assert not list(quantizer.state_dict())


def test_refuses_a_class_instead_of_an_instance() -> None:
    with pytest.raises(TypeError, match=r"needs ste to be an instance.*ClippedIdentity\(\)"):
        Sign(ste=ClippedIdentity)  # type: ignore[arg-type]


def test_refuses_an_unknown_scale() -> None:
    with pytest.raises(
        ValueError, match=r"one of none, tensor, channel, learned, got 'chanel'.*'channel'"
    ):
        Sign(scale="chanel")  # type: ignore[arg-type]


def test_refuses_integers() -> None:
    with pytest.raises(TypeError, match=r"floating point tensor, got torch.int64"):
        Sign()(torch.tensor([1, 2]))
