"""Lemmas 5.1, 5.3, 5.5 and Proposition 1 along runs; the figures of the specification."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch

from coarsegrad.ste import CoarseDerivative, Identity, LogTailedReLU, ReLU, ReverseExp
from coarsegrad.theory.two_layer import (
    Law,
    Monitored,
    TwoLayer,
    annulus,
    block_readout,
    component,
    initial,
    lemma_step,
    line_mass,
    monitor,
    planes,
)


def laws(density, theta: float = math.pi / 2, **cells: int) -> list[Law]:
    return [annulus(basis, density, **cells) for basis in planes(theta)]


def followed(
    density, ste: CoarseDerivative, bits: int, seed: int = 1, eta: float = 1.0, most: int = 5000,
    **cells: int,
) -> Monitored:  # fmt: skip
    net = TwoLayer(block_readout(2, 24), bits, ste)
    return monitor(net, laws(density, **cells), initial(seed + 1)[seed], eta, most)


def within(value: float, low: float, high: float) -> None:
    assert low <= value <= high


# Ratios, sums and bounds of the specification's A4, of another seed and grid: the least ratios of
# 5.3 and 5.5 hang on constants, so they are near; sums and bounds on W^0, so they are of the size.
QUICK = [
    ("polar", ReLU(), 4, 10.0, {}, (1.35, 1.61, 7.03), (0.0571, 1.16, 0.48)),
    ("polar", ReLU(), 4, 1.0, {"radii": 11, "angles": 80}, (1.31, 1.61, 7.02), (0.391, 10.3, 3.95)),
    ("area", ReLU(), 4, 1.0, {"radii": 11, "angles": 80}, (1.31, 1.47, 5.94), (0.401, 8.98, 3.96)),
]
LONG = [
    ("area", ReLU(), 4, 1.0, {}, (1.31, 1.47, 5.94), (0.401, 8.98, 3.96)),
    ("area", ReLU(), 2, 1.0, {}, (1.11, 1.55, 5.94), (0.406, 9.38, 3.86)),
    ("area", LogTailedReLU(), 2, 1.0, {}, (1.08, 5.65, 21.6), (0.407, 31.9, 13.8)),
    ("area", ReverseExp(), 2, 1.0, {}, (1.28, 5.08, 40.6), (0.358, 54.4, 24.6)),
    ("polar", ReLU(), 4, 1.0, {}, (1.31, 1.61, 7.02), (0.391, 10.3, 3.95)),
    ("polar", ReverseExp(), 2, 1.0, {}, (1.19, 5.83, 47.9), (0.354, 62.2, 28.1)),
]


@pytest.mark.parametrize(
    ("density", "ste", "bits", "eta", "cells", "ratios", "sums"),
    [*QUICK, *(pytest.param(*row, marks=pytest.mark.slow) for row in LONG)],
)
def test_the_lemmas_along_a_run(density, ste, bits, eta, cells, ratios, sums) -> None:
    found = followed(density, ste, bits, eta=eta, **cells)
    assert found.reached
    for lemma in ("lemma51", "lemma53", "lemma55"):
        assert found.worst(lemma).verdict == "holds"
    assert found.decreases == 0
    proposition = found.proposition1
    assert proposition is not None
    assert proposition.holds
    assert proposition.total <= proposition.telescoped <= proposition.bound
    own = [found.worst(lemma).ratio for lemma in ("lemma51", "lemma53", "lemma55")]
    within(own[0], 1, 1.15 * ratios[0])
    # With ReLU the ratios are those of the geometry, neared the more levels there are; the other
    # STEs' delta hangs on max |h|.
    spread = (1.03 if bits == 4 else 1.06) if isinstance(ste, ReLU) else 2.5
    within(own[1], ratios[1] / spread, ratios[1] * spread)
    within(own[2], ratios[2] / spread, ratios[2] * spread)
    for ours, theirs in zip(
        (proposition.total, proposition.bound, proposition.telescoped), sums, strict=True
    ):
        within(ours, theirs / 4, theirs * 4)


def test_atoms_near_the_edge_are_told_from_violations() -> None:
    """The specification's .27: two samples near <w~, x> = 0; a finer grid has no such step."""
    coarse = followed("area", ReLU(), 4, seed=0, radii=11, angles=80).worst("lemma53")
    assert coarse.ratio < 0.6
    assert coarse.verdict == "within quadrature"
    fine = followed("area", ReLU(), 4, seed=0, most=80).worst("lemma53")
    assert fine.ratio > 1
    assert fine.verdict == "holds"


def test_a_constant_too_small_is_violated() -> None:
    """The checks can fail: an eighth of C_p, of cells as if they were points."""
    wrong = [dataclasses.replace(law, c_p=law.c_p / 8, mesh=0.0) for law in laws("polar")]
    net = TwoLayer(block_readout(2, 24))
    step, _ = lemma_step(net, wrong, initial(2)[1])
    assert step.lemma53.verdict == "violated"
    assert step.lemma51.verdict == "holds"


def test_lemma_5_1_can_fail() -> None:
    wrong = [dataclasses.replace(law, largest=1.0) for law in laws("polar")]
    step, _ = lemma_step(TwoLayer(block_readout(2, 24)), wrong, initial(2)[1])
    assert step.lemma51.verdict == "violated"


def test_lemma_5_5_is_of_orthogonal_classes_only() -> None:
    net, w = TwoLayer(block_readout(2, 24)), initial(1)[0]
    slanted = monitor(net, laws("polar", math.pi / 4, radii=11, angles=80), w, most=100)
    assert slanted.worst("lemma55").verdict == "violated"
    assert slanted.decreases > 200  # of 2,400
    straight = monitor(net, laws("polar", radii=11, angles=80), w, most=100)
    assert straight.decreases == 0


def test_other_parts_may_shrink() -> None:
    """Monotone are own parts only: those in the other class's plane shrink and grow."""
    net, w = TwoLayer(block_readout(2, 24)), initial(1)[0]
    both = laws("polar", radii=11, angles=80)
    shrunk = 0
    for _ in range(50):
        _, after = lemma_step(net, both, w)
        grown = component(after[:12], both[1].basis).norm(dim=1)
        shrunk += int((grown < component(w[:12], both[1].basis).norm(dim=1) - 1e-12).sum())
        w = after
    assert shrunk > 100


def test_the_next_weights_are_iteration_8() -> None:
    """The even mixture of two laws with equal weights is the mean over all samples."""
    both = laws("polar", radii=5, angles=40)
    net, w = TwoLayer(block_readout(2, 24), 2, Identity()), initial(1)[0]
    step, after = lemma_step(net, both, w, eta=0.7)
    x = torch.cat([law.x for law in both])
    y = torch.arange(2).repeat_interleave(200)
    torch.testing.assert_close(after, net.step(w, x, y, 0.7))
    assert step.loss == pytest.approx(net.losses(w, x, y).mean().item())
    assert step.growth[0, :12] == pytest.approx(
        (component(after, both[0].basis).norm(dim=1) - component(w, both[0].basis).norm(dim=1))[:12]
    )
    assert not step.growth[0, 12:].any()


def test_points_have_no_constant() -> None:
    """On atoms C_p is infinite: 5.3, 5.5 and Proposition 1 say nothing."""
    atoms = [dataclasses.replace(law, c_p=math.inf) for law in laws("polar", radii=5, angles=40)]
    found = monitor(TwoLayer(block_readout(2, 24)), atoms, initial(1)[0], most=5)
    assert found.worst("lemma53").ratio == found.worst("lemma55").ratio == math.inf
    assert found.proposition1 is not None
    assert found.proposition1.bound == math.inf


@pytest.mark.parametrize("given", [[], laws("polar", radii=2, angles=8)[:1]], ids=len)
def test_a_law_for_each_class(given: Sequence[Law]) -> None:
    with pytest.raises(ValueError, match="a law for each of 2 classes"):
        lemma_step(TwoLayer(block_readout(2, 24)), given, initial(1)[0])


def test_no_step_needs_no_proposition() -> None:
    """Block initialisation: own parts large, other parts 0, and the loss is 0 at once."""
    w = torch.zeros(24, 4, dtype=torch.float64)
    angle = torch.arange(12, dtype=torch.float64) * math.pi / 6
    circle = 20 * torch.stack([angle.cos(), angle.sin()], 1)
    w[:12, :2] = w[12:, 2:] = circle
    found = monitor(TwoLayer(block_readout(2, 24)), laws("polar"), w)
    assert (found.reached, found.steps, found.proposition1) == (True, (), None)
    assert line_mass("polar", 1, 2) > 0
