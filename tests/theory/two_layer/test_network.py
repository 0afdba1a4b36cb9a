"""The two-layer network: its maps against the formulas, (7) against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from coarsegrad.ste import (
    ClippedIdentity,
    ClippedReLU,
    CoarseDerivative,
    Identity,
    LogTailedReLU,
    ReLU,
    ReverseExp,
    Sigmoid,
    coarse,
)
from coarsegrad.theory.two_layer import TwoLayer, block_readout, initial, quantized_relu, samples

SEVEN = [Identity(), ReLU(), ClippedReLU(), LogTailedReLU(), ReverseExp(), ClippedIdentity(),
         Sigmoid()]  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_the_quantized_relu_is_a_sum_of_steps(bits: int) -> None:
    """sigma(x) = sum over a = 0 .. q_b - 1 of 1{x > a}: not up to q_b, as the paper once prints."""
    h = torch.linspace(-3, 2.0**bits + 2, 22001, dtype=torch.float64)
    steps = torch.stack([(h > a).double() for a in range(2**bits - 1)]).sum(0)
    assert torch.equal(quantized_relu(h, bits), steps)
    assert quantized_relu(torch.tensor([0.0, -0.0]), bits).tolist() == [0, 0]


@pytest.mark.parametrize("ste", SEVEN, ids=lambda ste: type(ste).__name__)
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_formula_7_is_what_autograd_gives(ste: CoarseDerivative, bits: int) -> None:
    """Four classes, a V that breaks Assumption 1, ties and saturated units among the samples."""
    net = TwoLayer(normal(4, 12, seed=1), bits, ste)
    w, x = 2 * normal(12, 5, seed=2), 3 * normal(200, 5, seed=3)
    x[:8] = 0  # all outputs 0: every other class ties
    y = torch.arange(200) % 4
    weights = w.clone().requires_grad_()
    hidden = coarse(x @ weights.T, lambda h: quantized_relu(h, bits), net.ste)
    outputs = hidden @ net.v.T
    own = torch.nn.functional.one_hot(y, 4).bool()
    f = outputs[own] - outputs.masked_fill(own, -torch.inf).max(1).values
    losses = torch.relu(1 - f)
    losses.mean().backward()
    assert weights.grad is not None
    assert weights.grad.abs().max() > 0.01
    torch.testing.assert_close(net.coarse_gradient(w, x, y), weights.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(net.losses(w, x, y), losses.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(net.step(w, x, y, 0.5), w - 0.5 * weights.grad, rtol=0, atol=1e-12)


def test_many_weights_at_once_are_each_by_itself() -> None:
    net = TwoLayer(block_readout(3, 24), bits=2)
    w, x, y = initial(5), 2 * normal(60, 4), torch.arange(60) % 3
    for call in (net.losses, net.coarse_gradient):
        together = call(w, x, y)
        for i in range(5):
            torch.testing.assert_close(together[i], call(w[i], x, y), rtol=0, atol=1e-14)
    assert torch.equal(net.predict(w, x)[3], net.predict(w[3], x))


def test_probabilities_weigh_the_samples() -> None:
    net = TwoLayer(block_readout(2, 24))
    w, (x, y) = initial(1)[0], samples(1.0)
    twice = torch.cat([x, x[:5]]), torch.cat([y, y[:5]])
    p = torch.ones(1760, dtype=torch.float64)
    p[:5] = 2
    torch.testing.assert_close(
        net.coarse_gradient(w, x, y, p / p.sum()), net.coarse_gradient(w, *twice)
    )


def test_the_margin_of_exactly_1_is_no_loss() -> None:
    """Omega is l > 0, strictly: two units of 1/2 at level 1 are enough."""
    net = TwoLayer(block_readout(2, 4))
    w = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=torch.float64)
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0])
    assert net.losses(w, x, y).item() == 0
    assert not net.coarse_gradient(w, x, y).any()


@pytest.mark.parametrize(("v", "bits", "ste", "message"), [
    (torch.zeros(2, 3), 4, ReLU(), "float64 and finite, got .* of torch.float32"),
    (normal(1, 3), 4, ReLU(), r"classes >= 2, units.*got \(1, 3\)"),
    (normal(2, 3) / 0, 4, ReLU(), "finite"),
    (normal(2, 3), 0, ReLU(), "bits of 1 to 8, got 0"),
    (normal(2, 3), 9, ReLU(), "bits of 1 to 8, got 9"),
    (normal(2, 3), 4, ReverseExp(q=3), "q=3, but its quantizer's highest level is 15"),
])  # fmt: skip
def test_bad_networks(v: Tensor, bits: int, ste: CoarseDerivative, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoLayer(v, bits, ste)


@pytest.mark.parametrize("eta", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_step_sizes(eta: float) -> None:
    with pytest.raises(ValueError, match="finite eta > 0"):
        TwoLayer(block_readout(2, 24)).step(initial(1)[0], *samples(1.0), eta)


@pytest.mark.parametrize(("n", "k"), [(2, 3), (0, 4), (3, 2)])
def test_units_that_do_not_divide(n: int, k: int) -> None:
    with pytest.raises(ValueError, match="k a multiple of n"):
        block_readout(n, k)
