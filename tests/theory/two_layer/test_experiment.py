"""Section 8.1: sweeps against the network, must rows in quick and long forms, b = 1."""

from __future__ import annotations

import math
import time

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
)
from coarsegrad.theory.two_layer import (
    Outcome,
    Setting,
    TwoLayer,
    block_readout,
    component,
    experiment,
    initial,
    on_rays,
    on_samples,
    planes,
    samples,
    weight_norm,
)

TRAIN = [ReLU(), ReverseExp(), LogTailedReLU(), ClippedReLU()]
FAIL = [Identity(), ClippedIdentity(), Sigmoid()]


def name(ste: CoarseDerivative) -> str:
    return type(ste).__name__


def medians(found: Outcome) -> tuple[float, float]:
    return found.iterations.double().median().item(), found.norm.median().item()


@pytest.mark.parametrize("ste", [*TRAIN, *FAIL], ids=name)
@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("theta", [0.4, math.pi / 2])
def test_the_sweeps_are_the_network(ste: CoarseDerivative, bits: int, theta: float) -> None:
    net = TwoLayer(block_readout(2, 24), bits, ste)
    w = torch.cat([initial(3), 6 * initial(1)])  # the last saturates
    for noise in (0.0, 0.1):
        x, y = samples(theta, noise)
        sweep = on_samples(theta, noise, bits, ste) if noise else on_rays(theta, bits, ste)
        for some in (w, w[1:2], w):  # fewer, then more again: buffers are kept
            loss, gradient = sweep(some)
            wanted = net.coarse_gradient(some, x, y)
            torch.testing.assert_close(loss, net.losses(some, x, y).mean(1), rtol=0, atol=1e-13)
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-13)


def test_seeds_do_not_see_each_other() -> None:
    """Together, alone, and by the plain iteration: the same counts to loss 0."""
    together = experiment(Setting(), 4, 600)
    assert together.reached.all()
    alone = experiment(Setting(), initial(4)[2:3], 600)
    assert alone.iterations[0] == together.iterations[2]
    net, (x, y), w = TwoLayer(block_readout(2, 24)), samples(math.pi / 2), initial(4)[2]
    count = 0
    while net.losses(w, x, y).any():
        w, count = net.step(w, x, y), count + 1
    assert count == together.iterations[2]
    assert weight_norm(w).item() == pytest.approx(together.norm[2].item(), abs=1e-9)
    assert torch.equal(together.start, weight_norm(initial(4)))
    assert (net.predict(w, x) == y).all()


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_runs_that_are_cut_short_say_so(noise: float) -> None:
    found = experiment(Setting(noise=noise), 3, 5)
    assert found.iterations.tolist() == [-1, -1, -1]
    assert (found.loss > 0).all()
    assert (found.norm > 0).all()
    assert experiment(Setting(noise=noise), 1, 0).loss.item() > 0


def test_a_seed_that_starts_at_loss_0_takes_0_iterations() -> None:
    assert experiment(Setting(), _blocks()[None], 10).iterations.tolist() == [0]


@pytest.mark.parametrize("ste", TRAIN, ids=name)
def test_these_reach_loss_0(ste: CoarseDerivative) -> None:
    assert experiment(Setting(ste=ste), 3, 1000).reached.all()


@pytest.mark.parametrize("ste", FAIL, ids=name)
def test_these_do_not(ste: CoarseDerivative) -> None:
    found = experiment(Setting(ste=ste), 2, 300)
    assert not found.reached.any()
    assert (found.loss > 0.3).all()


def test_medians_of_few_seeds() -> None:
    """The specification's figures, N(0, 1); wider than the long form's, for 9 seeds."""
    straight, slanted = experiment(Setting(), 9, 2000), experiment(Setting(math.pi / 4), 9, 2000)
    assert straight.reached.all()
    assert slanted.reached.all()
    assert 150 <= medians(straight)[0] <= 400
    assert 270 <= medians(slanted)[0] <= 680
    assert 46 <= medians(straight)[1] <= 54


@pytest.mark.slow
@pytest.mark.parametrize("ste", [*TRAIN, *FAIL], ids=name)
def test_which_derivatives_train(ste: CoarseDerivative) -> None:
    """theta = pi/2, b = 4, 4,000 iterations, 20 seeds."""
    found = experiment(Setting(ste=ste), 20, 4000)
    assert found.reached.sum() == (20 if ste in TRAIN else 0)


@pytest.mark.slow
def test_the_sweep_over_theta() -> None:
    """Medians of 30 seeds, the trend, and 2 minutes for all of it."""
    start = time.perf_counter()
    found = {n: experiment(Setting(n * math.pi / 16), 30, 100_000) for n in range(1, 9)}
    seconds = time.perf_counter() - start
    iterations = {n: medians(outcome)[0] for n, outcome in found.items()}
    norms = {n: medians(outcome)[1] for n, outcome in found.items()}
    assert all(outcome.reached.all() for outcome in found.values())
    assert 200 <= iterations[8] <= 350
    assert 330 <= iterations[4] <= 570
    assert 47 <= norms[8] <= 53
    # Steep below pi/4, within the seeds' noise above 3 pi/8.
    assert iterations[1] > 2 * iterations[2] > 4 * iterations[4] > 4 * iterations[8]
    assert norms[1] > norms[2] > norms[3] > norms[4] > norms[8]
    assert iterations[8] == pytest.approx(iterations[6], rel=0.5)
    assert seconds < 120


def _blocks() -> Tensor:
    """Own parts all around the circle, other parts exactly 0."""
    w = torch.zeros(24, 4, dtype=torch.float64)
    angle = torch.arange(12, dtype=torch.float64) * math.pi / 6 + 0.1
    w[:12, :2] = w[12:, 2:] = torch.stack([angle.cos(), angle.sin()], 1)
    return w


@pytest.mark.parametrize("theta", [0.3, math.pi / 2])
def test_one_bit_cannot_reach_loss_0(theta: float) -> None:
    """1{h(x) > 0} + 1{h(-x) > 0} = 1: f(x) + f(-x) = 0, so each class loses 1 or more."""
    net, (x, y) = TwoLayer(block_readout(2, 24), bits=1), samples(theta)
    w = torch.cat([initial(40), 100 * initial(20), 0.01 * initial(20)])
    losses = net.losses(w, x, y)
    for label in (0, 1):
        assert losses[:, y == label].mean(1).min() >= 1
    two = TwoLayer(block_readout(2, 24), bits=2)
    assert two.losses(w, x, y).mean(1).min() < 1


def test_one_bit_in_training() -> None:
    """No seed succeeds and |W| grows without end; with two bits all of them do."""
    one = experiment(Setting(bits=1), 5, 300)
    assert not one.reached.any()
    assert (one.loss >= 1).all()
    assert (one.norm > 5 * one.start).all()
    assert experiment(Setting(bits=2), 5, 1000).reached.all()


def test_one_bit_needs_parts_that_are_exactly_0() -> None:
    """The excluded case: with other parts 0 a unit is silent on the other class, and loss 0 is."""
    w, (x, y) = _blocks(), samples(math.pi / 2)
    net = TwoLayer(block_readout(2, 24), bits=1)
    assert net.losses(w, x, y).max() == 0
    assert not component(w[:12], planes(math.pi / 2)[1]).any()
    assert experiment(Setting(bits=1), w[None], 10).iterations.tolist() == [0]
    assert net.losses(w + 1e-9 * initial(1)[0], x, y).mean() >= 1


BAD = [
    ({"theta": 0.0}, r"theta in \(0, pi/2\], got 0.0"),
    ({"theta": math.nan}, "theta"),
    ({"noise": -1.0}, "noise >= 0, got -1.0"),
    ({"noise": math.inf}, "noise"),
    ({"bits": 0}, "bits of 1 to 8, got 0"),
    ({"bits": 9}, "bits of 1 to 8, got 9"),
    ({"eta": 0.0}, "eta > 0"),
    ({"deviation": -2.0}, "deviation > 0"),
    ({"ste": LogTailedReLU(q=3)}, "q=3, but its quantizer's highest level is 15"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=str)
def test_bad_settings(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setting(**values)


@pytest.mark.parametrize(("seeds", "most", "message"), [
    (0, 5, "1 or more seeds, got 0"),
    (1, -1, "most >= 0 iterations, got -1"),
    (torch.zeros(2, 4, 24), 5, r"shape \(seeds, 24, 4\) and float64, got \(2, 4, 24\)"),
    (torch.zeros(2, 24, 4), 5, "float64, got .* of torch.float32"),
    (torch.zeros(0, 24, 4, dtype=torch.float64), 5, "shape"),
])  # fmt: skip
def test_bad_calls(seeds: int | Tensor, most: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment(Setting(), seeds, most)


def test_a_watcher_may_stop_it() -> None:
    seen = []

    def watch(t: int, at_work: int) -> None:
        seen.append((t, at_work))
        if t == 200:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        experiment(Setting(), 3, 1000, watch)
    assert seen[0] == (0, 3)
    assert [t for t, _ in seen] == [0, 100, 200]
