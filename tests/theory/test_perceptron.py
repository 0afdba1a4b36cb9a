"""The perceptron ends at zero errors on separable samples."""

from __future__ import annotations

import torch

from coarsegrad.theory import perceptron_loss, perceptron_step


def test_separable_samples_are_learned() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, dtype=torch.float64, generator=generator)
    truth = torch.randn(5, dtype=torch.float64, generator=generator)
    x = x[(x @ truth).abs() > 0.1]
    y = torch.sign(x @ truth)
    w = torch.randn(5, dtype=torch.float64, generator=generator)
    assert perceptron_loss(w, x, y) > 100
    for _ in range(1000):
        w = perceptron_step(w, x, y, eta=0.01)
    assert perceptron_loss(w, x, y) == 0
    assert torch.equal(perceptron_step(w, x, y), w)


def test_a_step_by_hand() -> None:
    """Errors at 2 of 3: w moves by eta times -(-2) x and -(2) x."""
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])
    y = torch.tensor([-1.0, 1.0, 1.0])
    w = torch.tensor([0.0, 1.0])  # signs 1, -1, 1
    assert perceptron_loss(w, x, y) == 8
    expected = w - 0.5 * (2 * x[0] - 2 * x[1])
    assert torch.equal(perceptron_step(w, x, y, eta=0.5), expected)
