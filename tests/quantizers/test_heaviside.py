from __future__ import annotations

import pytest
import torch

from coarsegrad.quantizers import Heaviside, Quantizer
from coarsegrad.ste import ClippedReLU, Identity, ReLU, Sigmoid

ROWS = [
    # quantizer, input, output, gradient of the output's sum
    (Heaviside(), [-2.0, -0.0, 0.0, 1e-30, 5.0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]),
    (Heaviside(ste=ClippedReLU(2.0)), [-1.0, 0.0, 2.0, 2.5], [0, 0, 1, 1], [0, 0, 1, 0]),
    (Heaviside(ste=Sigmoid()), [0.0, 0.0], [0, 0], [0.25, 0.25]),
    (Heaviside(ste=Identity()), [-1.0, 1.0], [0, 1], [1, 1]),
    # the mean where x > 0: a constant of the backward pass
    (Heaviside(scale="tensor"), [-9.0, 1.0, 3.0, 0.0], [0, 2, 2, 0], [0, 2, 2, 0]),
    (Heaviside(scale="channel"), [[-3.0, 1.0], [0.5, 1.5]], [[0, 1], [1, 1]], [[0, 1], [1, 1]]),
    (Heaviside(scale="learned", initial=3.0), [-3.0, 1.0], [0, 3], [0, 3]),
    # nothing above 0: the scale is 1
    (Heaviside(Identity(), "tensor"), [-2.0, 0.0], [0, 0], [1, 1]),
]


@pytest.mark.parametrize(("quantizer", "inputs", "output", "gradient"), ROWS)
def test_rows(quantizer: Heaviside, inputs: list, output: list, gradient: list) -> None:
    x = torch.tensor(inputs, requires_grad=True)
    y = quantizer(x)
    y.sum().backward()
    assert y.tolist() == torch.tensor(output, dtype=torch.float32).tolist()
    assert x.grad is not None
    assert x.grad.tolist() == torch.tensor(gradient, dtype=torch.float32).tolist()


def test_is_the_one_bit_quantized_relu() -> None:
    x = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    assert torch.equal(Heaviside()(x), x.ceil().clamp(0, 1))


def test_nan_becomes_zero() -> None:
    assert Heaviside()(torch.tensor([torch.nan])).tolist() == [0.0]


def test_facts() -> None:
    quantizer = Heaviside()
    assert isinstance(quantizer, Quantizer)
    assert (quantizer.levels, quantizer.bits, quantizer.ste) == ((0.0, 1.0), 1, ReLU())
    assert (quantizer.weights_only, quantizer.data_dependent) == (False, False)
