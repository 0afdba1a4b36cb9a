r"""Lemmas 4 to 7 and Theorem 1 in exact form: conditions of descent, and equations of the limit.

Dinh and Xin 2020 (Front. Appl. Math. Stat. 6:13), sections 4 and 5, for unit w. A = k / (2 pi).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from coarsegrad.theory.one_layer.network import OneLayer, angle
from coarsegrad.theory.one_layer.rvscgd import Splitting


def lipschitz_ratio(net: OneLayer, w1: Tensor, w2: Tensor, *, coarse: bool) -> Tensor:
    r"""Return \|G(w1) - G(w2)\| / \|w1 - w2\|, (...), of the coarse or the true gradient.

    Lemma 4: at most A for the coarse one, \|w1\| = 1 and \|w2\| >= 1. Lemma 3 says that the true
    one's is bounded too; it is not, near theta = 0 its direction flips.

    >>> net = OneLayer(torch.tensor([1.0, 0.0], dtype=torch.float64))
    >>> up = torch.tensor([1.0, 1e-3], dtype=torch.float64)
    >>> down = torch.tensor([1.0, -1e-3], dtype=torch.float64)
    >>> [round(float(lipschitz_ratio(net, up, down, coarse=c))) for c in (True, False)]
    [3, 3183]
    """
    field = net.coarse_gradient if coarse else net.gradient
    ratio: Tensor = (field(w1) - field(w2)).norm(dim=-1) / (w1 - w2).norm(dim=-1)
    return ratio


def lemma4_slack(net: OneLayer, w1: Tensor, w2: Tensor) -> Tensor:
    r"""Return the right side minus the left side of Lemma 4's inequality with L = A, (...).

    .. math:: f(w_2) - f(w_1) \leq \langle \mathrm{E} g(w_1), w_2 - w_1\rangle
              + \frac{A}{2} |w_2 - w_1|^2

    True for unit vectors with theta_2 <= theta_1, which the paper's proof uses and its lemma does
    not say; false without.
    """
    step = w2 - w1
    right = (net.coarse_gradient(w1) * step).sum(-1) + net.strength / 2 * (step**2).sum(-1)
    return right - (net.loss(w2) - net.loss(w1))


def angle_margin(net: OneLayer, splitting: Splitting, w: Tensor, u: Tensor) -> Tensor:
    r"""Return A sin theta - beta \|u\| sin gamma, (...), gamma the angle between u and w.

    Not negative is Lemma 5's exact condition: then theta does not grow under a small step. It is
    0 at every limit point (Lemma 7), and negative at w* itself if u is not along w*: there theta
    grows, which Theorem 1 excludes.
    """
    pull = splitting.beta * (u - (u * w).sum(-1, keepdim=True) * w).norm(dim=-1)
    # sin theta = 2 sin(theta/2) cos(theta/2), without a difference of near numbers.
    sine = (w - net.star).norm(dim=-1) * (w + net.star).norm(dim=-1) / 2
    margin: Tensor = net.strength * sine - pull
    return margin


class Lemma6(NamedTuple):
    """One step of w at fixed u: the change of the Lagrangian, its bound, the change of theta."""

    change: Tensor
    bound: Tensor
    theta: Tensor


def lemma6(net: OneLayer, splitting: Splitting, w: Tensor, u: Tensor) -> Lemma6:
    r"""Take one step from unit w at fixed u, and return what Lemma 6 compares.

    .. math:: L(u, w^+) - L(u, w) \leq -\frac{1}{2} \left[\frac{1 + 1/C}{\eta} - (\beta + A)\right]
              |w^+ - w|^2, \qquad C = 1 / |\hat w|

    where theta does not grow. So eta <= 1 / (beta + A) always suffices, and the paper's C <= 2 is
    not needed.
    """
    eta, beta = splitting.eta, splitting.beta
    moved = w - eta * net.coarse_gradient(w) - eta * beta * (w - u)
    length = moved.norm(dim=-1)
    after = moved / length[..., None]
    change = splitting.lagrangian(net, u, after) - splitting.lagrangian(net, u, w)
    factor = (1 + length) / eta - (beta + net.strength)
    bound = -factor / 2 * ((after - w) ** 2).sum(-1)
    return Lemma6(change, bound, angle(after, net.star) - angle(w, net.star))


class Limit(NamedTuple):
    """Theorem 1 at a limit point; each of shape (...).

    Attributes:
        identity: A sin theta - beta |u| sin gamma (Lemma 7); 0.
        residual: the distance between the sides of (12) with the best C; 0.
        c: that C, in (0, 1].
        distance: |w - w*|, the left side of (13).
        bound: (4 pi beta / k) sin gamma, its right side.
    """

    identity: Tensor
    residual: Tensor
    c: Tensor
    distance: Tensor
    bound: Tensor


def limit(net: OneLayer, splitting: Splitting, w: Tensor) -> Limit:
    r"""Return how far w, (..., d), is from meeting Theorem 1's (12), (13) and Lemma 7.

    .. math:: w^* = C w + \frac{\beta}{A} (w - \mathrm{prox}(w)), \qquad
              |w - w^*| \leq \frac{2 \beta}{A} \sin\gamma

    >>> net = OneLayer(torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64))
    >>> splitting = Splitting("l1", lam=0.02, beta=0.4)
    >>> found = limit(net, splitting, net.star)
    >>> bool(found.residual > 1e-4)
    True
    """
    u = splitting.prox(w)
    shift = splitting.beta / net.strength * (w - u)
    rest = net.star - shift
    c = (rest * w).sum(-1)
    sine = _sine(u, w)
    return Limit(
        angle_margin(net, splitting, w, u),
        (rest - c[..., None] * w).norm(dim=-1),
        c,
        (w - net.star).norm(dim=-1),
        2 * splitting.beta / net.strength * sine,
    )


def _sine(u: Tensor, w: Tensor) -> Tensor:
    """Return sin of the angle between u and unit w; 1 where u is 0 and has no angle."""
    norm: Tensor = torch.linalg.vector_norm(u, dim=-1)
    across = (u - (u * w).sum(-1, keepdim=True) * w).norm(dim=-1)
    return torch.where(norm > 0, across / norm.where(norm > 0, 1), 1.0)
