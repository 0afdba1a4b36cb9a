"""The data of section 8.1, exact zeros and mirror images; annuli and their C_p."""

from __future__ import annotations

import math

import pytest
import torch

from coarsegrad.theory.two_layer import (
    annulus,
    circle,
    line_mass,
    planes,
    quantized_relu,
    samples,
)


@pytest.mark.parametrize("n", [4, 8, 80, 160])
def test_the_circle_is_exact_where_the_formula_is(n: int) -> None:
    u = circle(n)
    angles = 2 * math.pi / n * torch.arange(1, n + 1, dtype=torch.float64)
    torch.testing.assert_close(u, torch.stack([angles.cos(), angles.sin()], 1), rtol=0, atol=1e-15)
    assert torch.equal(u[n // 2 :], -u[: n // 2])
    assert (u == 0).sum() == 4


def test_round_off_fires_no_level() -> None:
    """cos(pi/2) = 6e-17 is level 1 of a ceiling; a weight along e1 sees nothing of e2."""
    assert quantized_relu(torch.tensor(math.cos(math.pi / 2)), 4) == 1
    x, y = samples(math.pi / 2)
    axes = torch.eye(4, dtype=torch.float64)
    levels = quantized_relu(x @ axes, 4)
    assert not levels[y == 0, 2:].any(), "a sample of class 1 has a part in V_2"
    assert not levels[y == 1, :2].any()
    on_axis = (x == 0).sum(1) == 3
    assert on_axis.sum() == 2 * 4 * 11
    assert (levels[on_axis] > 0).sum() == 2 * 2 * 11


def test_the_samples_are_those_of_the_paper() -> None:
    x, y = samples(0.7)
    assert x.shape == (1760, 4)
    v = torch.tensor([[1, 0, 0, 0], [0, math.sin(0.7), math.cos(0.7), 0], [0, 0, 1, 0],
                      [0, 0, 0, 1]], dtype=torch.float64)  # fmt: skip
    wanted = torch.stack([
        r / 10 * (math.cos(j * math.pi / 40) * v[i] + math.sin(j * math.pi / 40) * v[i + 1])
        for i in (0, 2) for r in range(10, 21) for j in range(1, 81)
    ])  # fmt: skip
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-14)
    assert y.tolist() == [0] * 880 + [1] * 880


def test_noise_is_drawn_once() -> None:
    clean, noisy = samples(0.7)[0], samples(0.7, 0.1)[0]
    assert torch.equal(noisy, samples(0.7, 0.1)[0])
    assert not torch.equal(noisy, samples(0.7, 0.1, noise_seed=1)[0])
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.03)


@pytest.mark.parametrize("density", ["area", "polar"])
@pytest.mark.parametrize(("m", "largest"), [(1.0, 2.0), (0.5, 3.0)])
def test_c_p_is_the_largest_line_integral(density, m: float, largest: float) -> None:
    """Integrated along lines at every distance; the closed form is the maximum, at m."""
    s = torch.linspace(-largest, largest, 200001, dtype=torch.float64)
    step = float(s[1] - s[0])

    def along(distance: float) -> float:
        r = (s**2 + distance**2).sqrt()
        if density == "area":
            p = torch.full_like(r, 1 / (math.pi * (largest**2 - m**2)))
        else:
            p = 1 / (2 * math.pi * (largest - m) * r)
        return float(p[(r > m) & (r < largest)].sum()) * step

    found = [along(distance) for distance in (0.0, 0.5 * m, m, 1.1 * m, 1.5 * m)]
    assert max(found) == found[2]
    assert found[2] == pytest.approx(line_mass(density, m, largest), rel=1e-3)


def test_c_p_of_the_specification() -> None:
    assert line_mass("area", 1, 2) == pytest.approx(0.3676, abs=5e-5)
    assert line_mass("polar", 1, 2) == pytest.approx(0.4192, abs=5e-5)


@pytest.mark.parametrize(("density", "radius"), [("area", 14 / 9), ("polar", 1.5)])
def test_the_quadrature(density, radius: float) -> None:
    law = annulus(planes(math.pi / 2)[0], density)
    assert law.p.sum().item() == pytest.approx(1)
    r = law.x.norm(dim=1)
    assert r.min() > 1
    assert r.max() < law.largest == 2
    assert (law.p @ r).item() == pytest.approx(radius, rel=1e-3)
    assert not law.x[:, 2:].any()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: planes(0), r"theta in \(0, pi/2\], got 0"),
    (lambda: planes(2.0), r"theta in \(0, pi/2\], got 2.0"),
    (lambda: circle(6), "multiple of 4, got 6"),
    (lambda: circle(0), "multiple of 4, got 0"),
    (lambda: samples(1.0, -0.1), "noise >= 0, got -0.1"),
    (lambda: samples(1.0, math.nan), "noise >= 0, got nan"),
    (lambda: line_mass("area", 2, 1), "0 < m < M < inf"),
    (lambda: annulus(planes(1.0)[0], "polar", m=0), "0 < m < M < inf"),
])  # fmt: skip
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
