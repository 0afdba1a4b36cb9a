"""Monte Carlo twins of the closed forms: the printed formulas on samples, whole and by patch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from coarsegrad.errors import InputError
from coarsegrad.theory.one_layer.network import OneLayer, direction


class Estimate(NamedTuple):
    """A mean over samples, and the standard error of each of its entries."""

    mean: Tensor
    error: Tensor

    def deviation(self, exact: Tensor) -> float:
        """Return the largest difference from the exact values, in standard errors."""
        return float(((self.mean - exact).abs() / self.error).max())


class Moments(NamedTuple):
    """Estimates of f(w), of E g(w) and of the gradient of f."""

    loss: Estimate
    coarse_gradient: Estimate
    gradient: Estimate


def sampled_loss(net: OneLayer, w: Tensor, z: Tensor) -> Tensor:
    """Return the loss (5) of each sample, (N,), for w (d,) and samples z (N, k, d)."""
    gap = ((z @ w > 0).double() - (z @ net.star > 0).double()).sum(-1)
    return gap**2 / 2


def sampled_coarse_gradient(net: OneLayer, w: Tensor, z: Tensor) -> Tensor:
    r"""Return the coarse gradient (8) of each sample, (N, d).

    .. math:: g(w, Z) = c\, (1^T\sigma(Zw) - 1^T\sigma(Zw^*))\, Z^T \mu'(Zw), \qquad \mu' = \sigma
    """
    fires = (z @ w > 0).double()
    gap = (fires - (z @ net.star > 0).double()).sum(-1)
    return net.slope * gap[:, None] * (fires[:, None] @ z)[:, 0]


def moments(net: OneLayer, w: Tensor, patches: int, seed: int = 0, block: int = 50_000) -> Moments:
    r"""Estimate f, E g and the gradient of f from single patches z ~ N(0, I).

    The k patches of a sample are independent and sigma - sigma* has mean 0, so only a patch's
    product with itself counts:

    .. math:: f = \frac{k}{2} \mathrm{E} (\sigma - \sigma^*)^2, \qquad
              \mathrm{E} g = c k\, \mathrm{E} (\sigma - \sigma^*)\, \sigma z

    and, since sigma jumps where <z, w> = 0, a plane that z_P = z - <z, w^> w^ samples,

    .. math:: \nabla f = \frac{k}{2} \frac{1}{\sqrt{2\pi}\,|w|}\,
              \mathrm{E}\, z_P (1 - 2\, \sigma(\langle z_P, w^* \rangle))

    Args:
        net: with ``star`` (d,).
        w: (d,), float64.
        patches: how many, 2 or more.
        seed: of their draw.
        block: patches at a time.

    Raises:
        InputError: ``patches`` is below 2.

    >>> net = OneLayer(torch.tensor([1.0, 0.0], dtype=torch.float64))
    >>> w = torch.tensor([0.5, 1.0], dtype=torch.float64)
    >>> moments(net, w, 10_000).loss.deviation(net.loss(w)) < 4
    True
    """
    if patches < 2:
        raise InputError(f"moments needs 2 patches or more for a standard error, got {patches}")
    generator = torch.Generator().manual_seed(seed)
    unit, d = direction(w), w.shape[-1]
    scale = 1 / math.sqrt(2 * math.pi) / float(w.norm())
    sums, squares = torch.zeros(2, 1 + 2 * d, dtype=torch.float64)
    for start in range(0, patches, block):
        count = min(block, patches - start)
        z = torch.randn(count, d, dtype=torch.float64, generator=generator)
        along = z @ unit
        fires, theirs = along > 0, z @ net.star > 0
        across = z - along[:, None] * unit
        sign = 1 - 2 * (across @ net.star > 0).double()
        values = torch.cat([
            (fires != theirs).double()[:, None] * (net.k / 2),
            ((fires & ~theirs).double() * (net.slope * net.k))[:, None] * z,
            across * (sign * (net.k / 2 * scale))[:, None],
        ], 1)  # fmt: skip
        sums += values.sum(0)
        squares += (values * values).sum(0)
    mean = sums / patches
    error = ((squares / patches - mean * mean) / (patches - 1)).sqrt()
    parts = [Estimate(mean[part], error[part])
             for part in (slice(0, 1), slice(1, d + 1), slice(d + 1, None))]  # fmt: skip
    return Moments(*parts)
