"""Closed forms against autograd, finite differences, the printed formulas and Monte Carlo."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from coarsegrad.errors import InputError
from coarsegrad.quantizers import Heaviside
from coarsegrad.ste import ReLU
from coarsegrad.theory import (
    OneLayer,
    angle,
    direction,
    moments,
    random_starts,
    sampled_coarse_gradient,
    sampled_loss,
)

# theta and |w|
PLACES = [(0.3, 1.0), (1.1, 1.7), (2.6, 0.4)]


def place(theta: float, size: float, d: int, k: int = 20) -> tuple[OneLayer, Tensor]:
    """A network, and weights at an angle of theta to its star."""
    star, other = random_starts(d, 2)
    across = direction(other - (other @ star) * star)
    net = OneLayer(star, k)
    w = size * (math.cos(theta) * star + math.sin(theta) * across)
    assert float(angle(w, star)) == pytest.approx(theta, abs=1e-12)
    return net, w


def check_moments(theta: float, size: float, d: int, patches: int) -> None:
    net, w = place(theta, size, d)
    found = moments(net, w, patches)
    assert found.loss.deviation(net.loss(w)) < 4
    assert found.coarse_gradient.deviation(net.coarse_gradient(w)) < 4
    assert found.gradient.deviation(net.gradient(w)) < 4
    assert float(found.loss.error) < 20 / math.sqrt(patches)


@pytest.mark.parametrize(("theta", "size"), PLACES)
def test_closed_forms_are_what_monte_carlo_finds(theta: float, size: float) -> None:
    check_moments(theta, size, 5, 100_000)


@pytest.mark.slow
@pytest.mark.parametrize(("theta", "size"), PLACES)
def test_closed_forms_are_what_twenty_million_patches_find(theta: float, size: float) -> None:
    check_moments(theta, size, 10, 20_000_000)


def test_the_whole_network_has_the_moments_of_its_patches() -> None:
    """Cross terms between patches vanish in the mean."""
    net, w = place(1.1, 1.7, 3, k=6)
    z = torch.randn(40_000, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for values, exact in (
        (sampled_loss(net, w, z)[:, None], net.loss(w)),
        (sampled_coarse_gradient(net, w, z), net.coarse_gradient(w)),
    ):
        error = values.std(0) / math.sqrt(len(z))
        assert float(((values.mean(0) - exact).abs() / error).max()) < 4


def test_8_is_autograd_through_the_binarized_relu() -> None:
    net, w = place(1.1, 0.7, 4, k=5)
    z = torch.randn(64, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = Heaviside(scale="none", ste=ReLU())
    w.requires_grad_()
    gap = (sigma(z @ w) - sigma(z @ net.star)).sum(-1)
    (gap**2 / 2).sum().backward()
    assert w.grad is not None
    ours = sampled_coarse_gradient(net, w.detach(), z).sum(0)
    torch.testing.assert_close(ours, net.slope * w.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sampled_loss(net, w.detach(), z), (gap.detach() ** 2) / 2)


@pytest.mark.parametrize(("theta", "size"), PLACES)
def test_the_gradient_is_the_derivative_of_the_loss(theta: float, size: float) -> None:
    net, w = place(theta, size, 4)
    h = 1e-6
    steps = h * torch.eye(4, dtype=torch.float64)
    slopes = (net.loss(w + steps) - net.loss(w - steps)) / (2 * h)
    torch.testing.assert_close(net.gradient(w), slopes, rtol=1e-6, atol=1e-7)
    norm = net.k / (2 * math.pi * size)
    assert float(net.gradient(w).norm()) == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("slope", [1.0, math.sqrt(2 / math.pi)])
@pytest.mark.parametrize(("theta", "size"), PLACES)
def test_the_lemmas_forms_agree(theta: float, size: float, slope: float) -> None:
    """Lemma 2's form with the bisector b, and the inner product of Lemma 1."""
    net, w = place(theta, size, 4)
    net = OneLayer(net.star, net.k, slope)
    unit = direction(w)
    b = direction(unit + net.star)
    printed = slope * net.k / math.sqrt(2 * math.pi) * (unit - math.cos(theta / 2) * b)
    torch.testing.assert_close(net.coarse_gradient(w), printed, rtol=1e-12, atol=1e-12)
    product = float(net.coarse_gradient(w) @ net.gradient(w))
    lemma1 = slope * net.k**2 * math.sin(theta) / (2 * (2 * math.pi) ** 1.5 * size)
    assert product == pytest.approx(lemma1, rel=1e-12)


def test_angles_keep_their_digits() -> None:
    star = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for theta in (1e-9, 1e-3, 1.0, math.pi - 1e-9):
        w = 3 * torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
        assert float(angle(w, star)) == pytest.approx(theta, rel=1e-7 if theta < 1 else 1e-12)
    assert float(angle(star, star)) == 0
    assert float(angle(-star, star)) == math.pi


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OneLayer(torch.ones(3, dtype=torch.float64)), r"norm 1, .*norms 1.73205 to"),
        (lambda: OneLayer(torch.tensor([1.0])), "star of dtype float64"),
        (lambda: OneLayer(torch.ones(1, dtype=torch.float64), k=0), "k >= 1 and .*got k = 0"),
        (lambda: OneLayer(torch.ones(1, dtype=torch.float64), slope=0.0), "slope = 0.0"),
        (lambda: moments(*place(1.0, 1.0, 3), patches=1), "2 patches or more .*got 1"),
    ],
)
def test_refuses(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()  # type: ignore[operator]
