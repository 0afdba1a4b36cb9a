"""The fits: exact against a solver of linear programmes, and known constants found again."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from coarsegrad.theory.smoothness import (
    bowl,
    clipped_rate,
    clipping,
    descend,
    envelope,
    hyperbolic,
    least_squares,
    log_correlation,
    monomial,
    smoothness_along,
)


def pairs(l0: float, l1: float) -> tuple[list[float], list[float]]:
    """Return what clipped gradient descent on the hyperbolic cosine measures."""
    f = hyperbolic(l0, l1)
    path: list[tuple[float, ...]] = []
    norms: list[float] = []

    def keep(t: int, x: tuple[float, ...], norm: float) -> None:
        path.append(x)
        norms.append(norm)

    end = descend([f], [8.0 / l1], clipped_rate(*clipping(f.constants)), 1e-3, 10_000, keep)
    path.append(end.x)
    return norms, [smoothness_along([f], before, after) for before, after in pairwise(path)]


@pytest.mark.parametrize(("l0", "l1"), [(1.0, 2.0), (3.0, 0.5), (1.0, 1.0)])
def test_the_envelope_finds_known_constants_and_least_squares_does_not(
    l0: float, l1: float
) -> None:
    norms, smoothness = pairs(l0, l1)
    assert envelope(norms, smoothness) == pytest.approx((l0, l1), rel=0.01)
    biased = least_squares(norms, smoothness)
    assert biased.l1 == pytest.approx(l1, rel=0.03)
    assert biased.l0 < 0.75 * l0, "f'' is no line in f'"
    assert log_correlation(norms, smoothness) > 0.8


@pytest.mark.parametrize("seed", range(40))
def test_the_envelope_solves_its_linear_programme(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = int(generator.integers(1, 40))
    norms = generator.gamma(1.0, 3.0, n).round(int(generator.integers(0, 4)))
    smoothness = generator.gamma(0.5, 2.0, n) + generator.choice([-1, 0, 2]) * norms / 9
    smoothness = np.abs(smoothness)
    found = envelope(norms, smoothness)
    assert min(found) >= 0
    assert (found.l0 + found.l1 * norms >= smoothness * (1 - 1e-12)).all()
    best = linprog([1.0, norms.mean()], A_ub=-np.stack([np.ones(n), norms], 1), b_ub=-smoothness)
    assert best.fun == pytest.approx(found.l0 + found.l1 * norms.mean(), rel=1e-9, abs=1e-12)


def test_ties_have_the_least_slope() -> None:
    assert envelope([2.0, 2.0], [3.0, 4.0]) == (4, 0)
    assert envelope([0.0, 0.0], [1.0, 2.0]) == (2, 0)
    assert envelope([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == (0, 0)
    assert envelope([1.0, 3.0], [1.0, 3.0]) == (0, 1)


def test_least_squares_is_numpys() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.random(30), generator.random(30)
    slope, height = np.polyfit(x, y, 1)
    assert least_squares(x, y) == pytest.approx((height, slope))


def test_correlation() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
    assert log_correlation(x, x**3) == pytest.approx(1), "the zero is left out"
    assert log_correlation(x[1:], 1 / x[1:]) == pytest.approx(-1)
    for norms, smoothness in (([1.0, 1.0], [1.0, 2.0]), ([0.0, 1.0, 2.0], [5.0, 0.0, 1.0])):
        with pytest.raises(ValueError, match="two different norms and values above 0"):
            log_correlation(norms, smoothness)


def test_along_a_step() -> None:
    """Of x^4 from 0 to 1 the last of five points counts, at 5/6: 4 (5/6)^2."""
    assert smoothness_along([monomial(4)], [0.0], [1.0]) == pytest.approx(4 * (5 / 6) ** 2)
    assert smoothness_along([monomial(4)], [0.0], [1.0], points=1) == pytest.approx(1)
    both = smoothness_along([monomial(4), bowl()], [1.0, 0.0], [1.0, 2.0])
    assert both == pytest.approx(1), "nothing moves along x"
    with pytest.raises(ValueError, match="needs a step, got before equal to after"):
        smoothness_along([bowl()], [1.0], [1.0])
    with pytest.raises(ValueError, match="for each of 2 curves, got 1 and 2"):
        smoothness_along([bowl(), bowl()], [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="1 or more points, got 0"):
        smoothness_along([bowl()], [1.0], [2.0], points=0)


@pytest.mark.parametrize("fit", [least_squares, envelope, log_correlation])
@pytest.mark.parametrize(("norms", "smoothness", "message"), [
    ([], [], r"\(n,\) each, got shapes \(0,\)"),
    ([1.0, 2.0], [1.0], r"got shapes \(2,\) and \(1,\)"),
    ([1.0, math.nan], [1.0, 2.0], "finite numbers of 0 or more, got norm nan .* at point 1"),
    ([1.0, 2.0], [1.0, -2.0], "got norm 2.0 and smoothness -2.0 at point 1"),
])  # fmt: skip
def test_bad_pairs(fit: object, norms: list[float], smoothness: list[float], message: str) -> None:
    assert callable(fit)
    with pytest.raises(ValueError, match=message):
        fit(norms, smoothness)


def test_one_norm_is_no_line() -> None:
    with pytest.raises(ValueError, match="two different norms, got 2 only"):
        least_squares([2.0, 2.0], [1.0, 3.0])
