"""Section 3 of the specification: who converges where Adam does not."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from coarsegrad.errors import DivergenceError
from coarsegrad.theory.online import (
    TOYS,
    Lottery,
    Mark,
    Setting,
    Toy,
    marks,
    play,
    play_torch,
    printed1,
    reddi1,
    reddi2,
    twins,
)

REAL = ("reddi1", "reddi2", "repaired1")


def last(rule: str, toy: Toy, steps: int, start: float = 1.0) -> Mark:
    twin = twins(toy.binary or 1.0)[rule]
    return play(twin, toy, steps, Setting(betas=toy.betas), start=start, at=(steps,))[-1]


@pytest.mark.parametrize("name", TOYS)
def test_adam_stays_at_the_worst_point(name: str) -> None:
    toy = TOYS[name]()
    mark = last("Adam", toy, 100_000)
    assert mark.average > 0.9 * toy.gap
    assert mark.w > 0.99


@pytest.mark.parametrize("name", REAL)
def test_relative_bounds_do_not(name: str) -> None:
    mark = last("BAMSProd", TOYS[name](), 100_000)
    assert mark.average < 0.02
    assert mark.w < -0.9


@pytest.mark.parametrize("name", ["reddi1", "reddi2"])
@pytest.mark.parametrize("rule", ["SGD", "AMSBound"])
def test_neither_do_sgd_and_amsbound(name: str, rule: str) -> None:
    mark = last(rule, TOYS[name](), 100_000)
    assert mark.average < 0.05
    assert mark.w < -0.9


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["SGD", "AMSBound"])
def test_on_the_repaired_theorem_1_they_need_longer(rule: str) -> None:
    # All steps to 1e5 add up to 0.02 * 0.1 * 2 sqrt(1e5) = 1.26 for SGD, and 2 are needed.
    toy = TOYS["repaired1"]()
    early, late = last(rule, toy, 100_000), last(rule, toy, 1_000_000)
    assert early.average < 0.05
    assert -0.9 < early.w < 0
    assert late.average < 0.005
    assert late.w < -0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_amsgrad_falls(name: str) -> None:
    toy = TOYS[name]()
    seen = play(twins()["AMSGrad"], toy, 1_000_000, Setting(betas=toy.betas),
                at=(10_000, 100_000, 1_000_000))  # fmt: skip
    averages = [mark.average for mark in seen]
    assert averages == sorted(averages, reverse=True)
    assert averages[-1] < 0.05
    assert seen[-1].w < -0.9


@pytest.mark.parametrize("name", TOYS)
def test_the_printed_limit_from_w_equal_alpha(name: str) -> None:
    # error 0 -> c_u = 0: with 1/0 = 0 it never leaves +1; with eps for 0 it jumps across the box.
    toy = TOYS[name]()
    stays, jumps = (last(f"BAMSProd, literal{more}", toy, 20_000) for more in (", 1/0 = 0", ""))
    if name == "binary":
        assert stays.w == jumps.w < -0.9
        return
    assert stays.w == 1.0
    assert stays.average == pytest.approx(toy.gap, rel=1e-3)
    assert jumps.average > 1.4 * toy.gap


@pytest.mark.parametrize("ratio", [1.0, 2.0])
def test_on_theorem_1_as_printed_adam_goes_to_the_optimum(ratio: float) -> None:
    toy = printed1(ratio=ratio)
    drift = {
        rule: play(twins()[rule], toy, 20_000, Setting(betas=toy.betas), start=0.0)[-1].w
        for rule in ("Adam", "SGD", "AdaGrad", "AMSGrad")
    }
    assert drift["Adam"] < -0.1
    if ratio == 2:
        assert min(drift[rule] for rule in ("SGD", "AdaGrad", "AMSGrad")) > 0.3


def test_theorem_3_and_what_clipping_makes_of_it() -> None:
    start, setting = np.ones((2, 3)), Setting(eta=np.array([[0.1], [0.3]]), betas=(0.3, 0.3))
    free, clipped = (Lottery(clip=G).draw(5000, 3) for G in (None, 8.0))
    adam = play(twins()["Adam"], free, 5000, setting, start=start, at=(4000, 5000))[-1]
    assert adam.recent.shape == (2, 3)
    assert (adam.recent > 0.98).all()
    assert adam.average == pytest.approx(0.2, abs=0.01)
    sgd = play(twins()["SGD"], free, 5000, setting, start=start, at=(4000, 5000))[-1]
    assert sgd.recent[1].mean() < -0.7
    biased = play(twins()["SGD"], clipped, 5000, setting, start=-start, at=(4000, 5000))[-1]
    assert biased.recent.mean() > 0.5


def test_any_torch_optimizer_can_play() -> None:
    toy = reddi2()
    marks_ = play_torch(lambda w: torch.optim.RMSprop([w], lr=0.1, alpha=0.3), toy, 300, start=1.0)
    assert marks_[-1].w > 0.9
    sgd = play_torch(lambda w: torch.optim.SGD([w], lr=0.1), toy, 300, at=(300,))[-1]
    ours = last("SGD", toy, 300)
    assert (sgd.w, sgd.average) == pytest.approx((ours.w, ours.average), abs=1e-12)


def test_marks() -> None:
    assert marks(1) == (1,)
    assert marks(1000)[-2:] == (900, 1000)
    for steps, at, said in ((0, (), "1 or more steps, got 0"), (5, (6,), "1 to 5, got 6 to 6")):
        with pytest.raises(ValueError, match=said):
            play(twins()["SGD"], reddi1(), steps, at=at)


def test_a_run_that_leaves_the_finite_numbers_says_so() -> None:
    toy = Toy("grows", (1e308,), (0.0, 0.5))
    with pytest.raises(DivergenceError, match=r"diverged by iteration 9: .*take a smaller eta"):
        play(twins()["SGD"], toy, 10, Setting(eta=10.0, box=None))


@pytest.mark.slow
def test_eight_twins_take_a_million_steps_within_a_minute() -> None:
    eight = ("SGD", "AdaGrad", "Adam", "AMSGrad", "AdaBound", "AMSBound", "Bop", "BAMSProd")
    begin = time.process_time()
    for rule in eight:
        last(rule, reddi1(), 1_000_000)
    assert time.process_time() - begin < 60
