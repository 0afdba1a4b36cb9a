r"""Lemmas 5.1, 5.3, 5.5 and Proposition 1, checked at every step with computed constants.

With P = P_i(l > 0 and h_j > 0), G = the coarse gradient of l_i in w_j, and w~ the direction of
P_{V_i} w_j, for each own unit j of class i (v~_ij > 0):

.. math:: (5.1)\; P \geq \frac{|G|}{\hat v_j \tilde\delta M} \qquad
          (5.3)\; \langle \tilde w, -G \rangle \geq \frac{\tilde v \delta}{2 C_p} P^2

.. math:: (5.5)\; |w^{t+1}_{j,i}| - |w^t_{j,i}| \geq
          \frac{\eta \tilde v \delta}{2 n C_p \hat v^2 \tilde\delta^2 M^2} |G|^2

Long, Yin, Xin 2020, arXiv:2011.11256, section 5. (5.5) needs orthogonal classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from coarsegrad.theory.two_layer.assumptions import own_pull, pull_range
from coarsegrad.theory.two_layer.classes import Law
from coarsegrad.theory.two_layer.decomposition import component, unit
from coarsegrad.theory.two_layer.network import TwoLayer, margins, quantized_relu

Verdict = Literal["holds", "within quadrature", "violated"]
"""``within quadrature``: broken by no more than the samples' cells explain."""

ROUNDING = 1e-12


class Check(NamedTuple):
    """An inequality over all own units at one step: its least ratio of the sides, and verdict.

    A right side of 0 (no coarse gradient, or C_p infinite) counts as a ratio of inf.
    """

    ratio: float
    verdict: Verdict


@final
@dataclass(frozen=True)
class Step:
    """The lemmas at one step, from W^t to W^{t+1}.

    Attributes:
        loss: l(W^t).
        lemma51: Lemma 5.1.
        lemma53: Lemma 5.3.
        lemma55: Lemma 5.5.
        squares: |G|^2 of each class and unit, (n, k); 0 where the unit is not the class's own.
        growth: |w^{t+1}_{j,i}| - |w^t_{j,i}|, (n, k), likewise.
        slopes: delta and delta~, from the largest pre-activation of this step.
    """

    loss: float
    lemma51: Check
    lemma53: Check
    lemma55: Check
    squares: Tensor
    growth: Tensor
    slopes: tuple[float, float]


class _Measured(NamedTuple):
    """What a class i gives at W: its loss, P (k,), -G (k, d), and the largest |h|."""

    loss: float
    probability: Tensor
    push: Tensor
    bound: float


class _Sides(NamedTuple):
    """An inequality over own units: left, right, and right less what cells may take."""

    left: Tensor
    right: Tensor
    least: Tensor


def _measure(net: TwoLayer, law: Law, i: int, w: Tensor) -> _Measured:
    h = law.x @ w.mT
    y = torch.full((len(law.x),), i)
    f, rival = margins(quantized_relu(h, net.bits) @ net.v.T, y)
    weight = law.p * (f < 1)
    probability = weight @ (h > 0).to(h.dtype)
    pull = (net.v[i] - net.v.T[:, rival].T) * weight[:, None]
    push = (pull * net.ste.derivative(h)).T @ law.x
    loss = float(law.p @ (1 - f).clamp(min=0))
    return _Measured(loss, probability, push, float(h.abs().max()))


def lemma_step(
    net: TwoLayer, laws: Sequence[Law], w: Tensor, eta: float = 1.0
) -> tuple[Step, Tensor]:
    """Return the lemmas at W, (k, d), and the next W by iteration (8).

    Args:
        net: the network; its ste may be any, but the lemmas are claimed under Assumption 2.
        laws: a law for each of the n classes.
        w: weights (k, d), float64.
        eta: the step size.

    Raises:
        ValueError: the number of laws is not that of the classes.
    """
    n = len(net.v)
    if len(laws) != n:
        raise ValueError(f"lemma_step needs a law for each of {n} classes, got {len(laws)}")
    found = [_measure(net, law, i, w) for i, law in enumerate(laws)]
    after = w + eta / n * torch.stack([measured.push for measured in found]).sum(0)
    # The bound of Assumption 2 must be positive; with all h = 0 any one serves.
    assumed = net.ste.assumption2(max(measured.bound for measured in found) or 1.0)
    slopes = assumed.delta, assumed.delta_tilde
    squares, growth = torch.zeros_like(net.v), torch.zeros_like(net.v)
    rows = []
    for i, (law, measured) in enumerate(zip(laws, found, strict=True)):
        mine = own_pull(net.v)[i] > 0
        before, later = (component(part[mine], law.basis) for part in (w, after))
        growth[i, mine] = later.norm(dim=1) - before.norm(dim=1)
        squares[i, mine] = measured.push[mine].square().sum(1)
        along = (unit(before) * measured.push[mine]).sum(1)
        left = (measured.probability[mine], along, growth[i, mine])
        rows.append(_sides(net, law, measured, i, left, slopes, eta))
    lemma51, lemma53, lemma55 = (_check(sides) for sides in zip(*rows, strict=True))
    loss = sum(measured.loss for measured in found) / n
    return Step(loss, lemma51, lemma53, lemma55, squares, growth, slopes), after


def _sides(
    net: TwoLayer, law: Law, measured: _Measured, i: int, left: tuple[Tensor, Tensor, Tensor],
    slopes: tuple[float, float], eta: float,
) -> tuple[_Sides, _Sides, _Sides]:  # fmt: skip
    """Return the sides of the three lemmas over class i's own units."""
    delta, delta_tilde = slopes
    own = own_pull(net.v)[i]
    mine = own > 0
    gain = own[mine] * delta / (2 * law.c_p)
    p, size = measured.probability[mine], measured.push[mine].norm(dim=1)
    least = size / (pull_range(net.v)[mine] * delta_tilde * law.largest)
    # A strip of width t holds samples whose cells lie in a strip wider by a mesh on each side.
    # With C_p infinite there are no cells, and nothing is claimed.
    slack = 2 * law.mesh * law.c_p
    rate = eta / len(net.v) * gain
    return (
        _Sides(left[0], least, least),
        _Sides(left[1], gain * p**2, gain * (p - slack).clamp(min=0) ** 2),
        _Sides(left[2], rate * least**2, rate * (least - slack).clamp(min=0) ** 2),
    )


def _check(sides: Sequence[_Sides]) -> Check:
    left, right, slack = (torch.cat(parts) for parts in zip(*sides, strict=True))
    ratio = torch.where(right > 0, left / right.clamp(min=1e-300), torch.inf)
    verdict: Verdict = "holds"
    if (left < right - ROUNDING).any():
        verdict = "violated" if (left < slack - ROUNDING).any() else "within quadrature"
    return Check(float(ratio.min()), verdict)
