"""Section 4: parts of the weights in the classes' subspaces."""

from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.theory.two_layer import (
    TwoLayer,
    block_readout,
    component,
    components,
    initial,
    planes,
    principal_angle,
    samples,
    unit,
    weight_norm,
)


@pytest.mark.parametrize("theta", [math.pi / 64, 0.3, math.pi / 4, math.pi / 2])
def test_the_planes_are_theta_apart(theta: float) -> None:
    for basis in planes(theta):
        torch.testing.assert_close(basis @ basis.T, torch.eye(2, dtype=torch.float64))
    assert principal_angle(*planes(theta)) == pytest.approx(theta, abs=1e-7)


def test_parts_add_up() -> None:
    w = initial(3)
    bases = [basis[:1] for basis in planes(math.pi / 2)]  # two lines: something is left over
    parts = components(w, bases)
    assert parts.shape == (3, 3, 24, 4)
    assert parts[2].abs().max() > 0.1
    torch.testing.assert_close(parts.sum(0), w)
    with pytest.raises(ValueError, match=r"orthogonal subspaces, got an angle of 0\.7854"):
        components(w, planes(math.pi / 4))


def test_lemmas_4_1_and_4_3() -> None:
    """A class sees its own part only, and its coarse gradient moves its own part only."""
    net, (x, y) = TwoLayer(block_readout(2, 24)), samples(math.pi / 2)
    w, bases = initial(1)[0], planes(math.pi / 2)
    first = y == 0
    part = component(w, bases[0])
    assert torch.equal(net.losses(w, x[first], y[first]), net.losses(part, x[first], y[first]))
    after = w - net.coarse_gradient(w, x[first], y[first])
    torch.testing.assert_close(component(after, bases[1]), component(w, bases[1]))
    assert (component(after, bases[0]) - part).abs().max() > 1e-3


def test_units_and_norms() -> None:
    w = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    assert weight_norm(w).tolist() == [5]
    torch.testing.assert_close(unit(w).norm(dim=-1), torch.tensor([[1.0, 0.0]]))
