"""Classes on two planes: the grid of section 8.1, and annuli with a density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

Density = Literal["area", "polar"]
"""Uniform by area, or uniform in radius and angle, as a continuum of section 8.1 would be."""


def circle(n: int) -> Tensor:
    """Return n unit vectors at the angles 2 pi j / n, j = 1..n, (n, 2), float64.

    Mirrored from one quarter, so that zeros are exact and the point at phi + pi is the exact
    negative of that at phi: cos(pi/2) = 6e-17 would be level 1 of a ceiling.

    Raises:
        ValueError: n is not a positive multiple of 4.

    >>> circle(4).tolist()
    [[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 0.0]]
    """
    if n < 4 or n % 4:
        raise ValueError(f"circle needs a positive multiple of 4, got {n}")
    quarter = n // 4
    c = [math.cos(2 * math.pi * j / n) for j in range(quarter)] + [0.0]
    first = torch.tensor([(c[j], c[quarter - j]) for j in range(1, quarter + 1)],
                         dtype=torch.float64)  # fmt: skip
    second = torch.stack([-first[:, 1], first[:, 0]], 1)
    half = torch.cat([first, second])
    # 0.0 + x turns a -0.0 into 0.0.
    return 0.0 + torch.cat([half, -half])


def planes(theta: float) -> tuple[Tensor, Tensor]:
    """Return orthonormal bases of V_1 and V_2 of section 8.1, (2, 4) each, theta apart.

    V_1 = span(e1, sin(theta) e2 + cos(theta) e3), V_2 = span(e3, e4).

    Raises:
        ValueError: theta is not in (0, pi/2].

    >>> planes(math.pi / 2)[0].tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    if not 0 < theta <= math.pi / 2:
        raise ValueError(f"planes needs theta in (0, pi/2], got {theta!r}")
    cosine = 0.0 if theta == math.pi / 2 else math.cos(theta)
    e = torch.eye(4, dtype=torch.float64)
    return torch.stack([e[0], math.sin(theta) * e[1] + cosine * e[2]]), e[2:]


RADII = torch.arange(10, 21, dtype=torch.float64) / 10
"""S_r of section 8.1: 1.0, 1.1, ..., 2.0."""

ANGLES = 80
"""The number of angles S_phi of section 8.1."""


def samples(theta: float, noise: float = 0.0, noise_seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the 1,760 samples of section 8.1, (1760, 4), and their labels 0 and 1.

    Args:
        theta: the angle between the classes' planes, in (0, pi/2].
        noise: s; s N(0, I) is added to every sample, drawn once.
        noise_seed: of that draw.

    Raises:
        ValueError: theta is not in (0, pi/2], or noise is negative or not finite.

    >>> x, y = samples(math.pi / 2)
    >>> x.shape, y.bincount().tolist()
    (torch.Size([1760, 4]), [880, 880])
    """
    if not (noise >= 0 and math.isfinite(noise)):
        raise ValueError(f"samples needs a finite noise >= 0, got {noise!r}")
    directions = [circle(ANGLES) @ basis for basis in planes(theta)]
    x = torch.cat([(RADII[:, None, None] * u).reshape(-1, 4) for u in directions])
    if noise:
        generator = torch.Generator().manual_seed(noise_seed)
        x = x + noise * torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return x, torch.arange(2).repeat_interleave(len(x) // 2)


@final
@dataclass(frozen=True)
class Law:
    """One class: a density on a plane, as the weighted samples of a quadrature.

    Attributes:
        basis: the plane, orthonormal rows (2, d).
        x: samples (N, d).
        p: their probabilities (N,), which add up to 1.
        largest: M, above every |x|.
        c_p: the largest integral of the density along a line of the plane (Lemma 5.3).
        mesh: the largest distance from a sample to a point of its cell.
    """

    basis: Tensor
    x: Tensor
    p: Tensor
    largest: float
    c_p: float
    mesh: float


def annulus(
    basis: Tensor, density: Density, m: float = 1.0, largest: float = 2.0,
    radii: int = 24, angles: int = 160,
) -> Law:  # fmt: skip
    """Return a class on the annulus m < |x| < M of a plane, by midpoint rule in polar cells.

    Args:
        basis: the plane, orthonormal rows (2, d), float64.
        density: by ``area``, or ``polar``: uniform in radius and angle.
        m: the inner radius, > 0.
        largest: M, the outer radius, > m.
        radii: cells along the radius.
        angles: cells around, a multiple of 4.

    Raises:
        ValueError: not 0 < m < M < inf, or ``angles`` is no multiple of 4.

    >>> law = annulus(torch.eye(2, dtype=torch.float64), "area", radii=4, angles=8)
    >>> round(law.c_p, 4), law.x.shape, round(float(law.p.sum()), 12)
    (0.3676, torch.Size([32, 2]), 1.0)
    """
    c_p = line_mass(density, m, largest)
    width = (largest - m) / radii
    r = m + width * (torch.arange(radii, dtype=torch.float64) + 0.5)
    p = (r if density == "area" else torch.ones_like(r)).repeat_interleave(angles)
    x = (r[:, None, None] * (circle(angles) @ basis)).reshape(-1, basis.shape[1])
    # Half a cell outwards and half a cell along the outermost arc, at most.
    mesh = math.hypot(width / 2, math.pi * largest / angles)
    return Law(basis, x, p / p.sum(), largest, c_p, mesh)


def line_mass(density: Density, m: float, largest: float) -> float:
    r"""Return C_p of an annulus: its largest line integral, on the line tangent to \|x\| = m.

    .. math:: \frac{2}{\pi \sqrt{M^2 - m^2}} \;\mathrm{(area)}, \qquad
              \frac{\mathrm{arccosh}(M/m)}{\pi (M - m)} \;\mathrm{(polar)}

    Derived here; the paper leaves C_p open.

    Raises:
        ValueError: not 0 < m < M < inf.

    >>> round(line_mass("area", 1, 2), 4), round(line_mass("polar", 1, 2), 4)
    (0.3676, 0.4192)
    """
    if not (0 < m < largest < math.inf):
        raise ValueError(f"an annulus needs 0 < m < M < inf, got m = {m!r}, M = {largest!r}")
    if density == "area":
        return 2 / (math.pi * math.sqrt(largest**2 - m**2))
    return math.acosh(largest / m) / (math.pi * (largest - m))
