"""Equation (1), Theorem 4 and Corollary 4 along runs."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from coarsegrad.errors import DivergenceError
from coarsegrad.theory import online
from coarsegrad.theory.online import (
    TOYS,
    Lottery,
    Setting,
    Toy,
    Trace,
    bamsprod,
    corrected,
    moment,
    monitors,
    printed_corollary,
    printed_theorem,
    reddi2,
    trace,
    twins,
    upsilon,
)

LITERAL = partial(bamsprod, cstar="literal", own_step=True, stay=True)


def run(rule: str, name: str = "reddi2", steps: int = 5000, **options: object) -> Trace:
    toy = TOYS[name]()
    setting = Setting(betas=toy.betas, **options)  # type: ignore[arg-type]
    return trace(twins(toy.binary or 1.0)[rule], toy, steps, setting)


def test_gamma_and_upsilon_do_not_predict_convergence() -> None:
    ams, adam = run("AMSGrad", steps=20_000), run("Adam", steps=20_000)
    ours = run("BAMSProd", steps=20_000)
    stuck = trace(LITERAL, reddi2(), 20_000, Setting(betas=(0.3, 0.3)))
    seen = [monitors(one) for one in (ams, ours, stuck)]
    # It converges or it stays at +1: n- is 0, and Gamma as large.
    assert (ours.w[-1, 0] < -0.9, stuck.w[-1, 0]) == (True, 1.0)
    assert [round(one.share, 3) for one in seen] == [0, 0, 0]
    assert [one.projected.max() for one in seen] == pytest.approx([1.04e4] * 3, rel=0.01)
    # Adam's pair is one and the same: Gamma is 0, and it fails.
    adams = monitors(adam)
    assert adams.projected.max() == 0
    assert adams.share == pytest.approx(0.9, abs=0.01)
    # Not necessary either: with a constant eta Upsilon falls in every step.
    level = run("BAMSProd, constant", steps=20_000, eta=0.01, invsqrt=False)
    assert monitors(level).share > 0.9
    assert level.w[-1000:].mean() < -0.8


def test_upsilon_by_hand() -> None:
    value, eta = np.array([[4.0, 1.0], [9.0, 0.0]]), np.array([1.0, 0.5])
    assert upsilon(value, eta).tolist() == [[2, 1], [4, -1]]


def test_the_shadow_is_full_precision() -> None:
    problem = online.Quadratic()
    setting = Setting(eta=1.0, betas=(0.0, 0.5))
    ended = trace(online.amsgrad, problem, 50, setting, start=np.array([1.0, 0.5]))
    assert np.allclose(ended.shadow, ended.w - np.array(problem.target))
    assert not np.allclose(ended.shadow, ended.g)
    pair = monitors(ended)
    ours, theirs = (upsilon(x, ended.eta) for x in (ended.value, moment(ended.shadow, 0.5)))
    assert pair.quantized == pytest.approx(np.sqrt(((ours - theirs) ** 2).mean(1)))


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("rule", [
    "SGD", "AdaGrad", "Adam", "AMSGrad", "AdaBound", "AMSBound", "BAMSProd", "BAMSProd, constant",
    "BAMSProd, literal sum",
])  # fmt: skip
@pytest.mark.parametrize("decay", ["power", "constant"])
def test_the_corrected_theorem_holds(name: str, rule: str, decay: str) -> None:
    bound = corrected(run(rule, name, 1000, beta1_decay=decay))
    assert bound.verdict == "holds"
    assert math.isfinite(bound.total)


def test_it_holds_on_drawn_losses_and_random_slopes() -> None:
    draws = np.random.default_rng(3)
    for seed in range(5):
        slopes = draws.normal(0, 2, 40)
        best = -1.0 if slopes.sum() > 0 else 1.0
        toy = Toy("random", tuple(-best * slopes), (0.5, 0.9))  # mirrored, so that -1 is best
        setting = Setting(eta=0.3, betas=toy.betas, beta1_decay="inverse")
        for rule in ("Adam", "AMSGrad", "BAMSProd"):
            assert corrected(trace(twins()[rule], toy, 400, setting)).verdict == "holds", seed
    assert Lottery().gap == pytest.approx(0.2)


def test_corollary_4_as_printed_is_violated() -> None:
    problem = online.Quadratic()
    setting = Setting(eta=1.0, betas=(0.0, 0.5))
    ended = trace(online.amsgrad, problem, 10_000, setting, start=np.ones(2))
    scale = float(np.abs(ended.w).mean(1).max())
    assert ended.total == pytest.approx(2004, rel=0.01)
    for alpha in (None, scale):
        bound = printed_corollary(ended, 2.2, 2.2, scale, alpha=alpha)
        assert (bound.verdict, bound.momentum) == ("violated", 0)
    right = corrected(ended)
    assert right.verdict == "holds"
    assert right.quantization > 0.5 * right.total  # what the corollary takes for a constant


@pytest.mark.slow
def test_theorem_4_as_printed_is_violated() -> None:
    toy = reddi2()
    setting = Setting(eta=1.0, betas=toy.betas, beta1_decay="power")
    ended = trace(LITERAL, toy, 1_000_000, setting)
    assert ended.total == pytest.approx(200_000)
    bound = printed_theorem(ended, 10.0)
    assert (bound.verdict, round(bound.total)) == ("violated", 116_470)
    assert printed_theorem(ended, 10.0, alpha=1.0).verdict == "violated"
    assert corrected(ended).total == math.inf  # c_u = 0: it says nothing


def test_terms_by_hand() -> None:
    one = np.ones((1, 1))
    ended = Trace(Setting(eta=0.5, betas=(0.5, 0.75)), one, 0.5 * one, 2 * one, 2 * one, 4 * one,
                  one, np.array([0.5]), np.array([3.0]))  # fmt: skip
    bound = corrected(ended)
    ratio = 0.5 / math.sqrt(0.75)
    assert bound.regret == 3
    assert bound.distance == 4 / (2 * 0.5 * 0.5) * 2
    assert bound.momentum == 4 / (2 * 0.5) * 0.5 * 2 / 0.5
    assert bound.gradients == pytest.approx(0.5 * 0.5 / (0.25 * (1 - ratio) * 0.5) * 2)
    assert bound.quantization == pytest.approx(2 / math.sqrt(2) * math.sqrt(2) * 0.5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="eta_t = eta / sqrt"):
        corrected(run("SGD", steps=10, invsqrt=False))
    with pytest.raises(ValueError, match="a second moment, got one without, as Bop"):
        run("Bop", steps=10)
    with pytest.raises(ValueError, match="1 or more steps and one eta, got 0"):
        run("SGD", steps=0)
    toy = Toy("grows", (1e308,), (0.0, 0.5))
    with pytest.raises(DivergenceError, match="diverged at iteration 2"):
        trace(twins()["SGD"], toy, 10, Setting(eta=10.0, box=None))
