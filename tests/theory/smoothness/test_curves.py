"""The functions with known (L0, L1): derivatives, least constants, and what follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coarsegrad.theory.smoothness import (
    Constants,
    Curve,
    bowl,
    constants_of,
    flat,
    gap_bound,
    hyperbolic,
    monomial,
    rise_bound,
    steep,
)
from coarsegrad.theory.smoothness.curves import where

CURVES = [
    hyperbolic(), hyperbolic(3.0, 0.5), monomial(3), monomial(4), monomial(4, 2.0), monomial(7),
    steep(), steep(2.0), flat(0.02), bowl(),
]  # fmt: skip
TIGHT = CURVES[:-2]
names = [f"{c.name} {c.constants.l1:g}" for c in CURVES]


@pytest.mark.parametrize("curve", CURVES, ids=names)
def test_derivatives(curve: Curve) -> None:
    d = 1e-5
    for x in np.linspace(-3, 3, 40).tolist():
        if min(abs(abs(x) - 1), abs(abs(x) - 0.5)) < 2 * d:
            continue  # where two pieces meet, f'' may jump
        rise = (curve.value(x + d) - curve.value(x - d)) / (2 * d)
        bend = (curve.slope(x + d) - curve.slope(x - d)) / (2 * d)
        assert curve.slope(x) == pytest.approx(rise, rel=1e-6, abs=1e-8)
        assert curve.curvature(x) == pytest.approx(bend, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("curve", CURVES, ids=names)
def test_constants_hold_and_are_the_least(curve: Curve) -> None:
    """On a grid that holds the point of contact, (p - 2) / L1 for x^p."""
    l0, l1 = curve.constants
    ratios = [
        abs(curve.curvature(x)) / (l0 + l1 * abs(curve.slope(x)))
        for x in np.linspace(-10, 10, 4001).tolist()
    ]
    assert max(ratios) == pytest.approx(1, abs=1e-12)
    assert max(ratios) <= 1 + 1e-15


def test_the_papers_examples() -> None:
    assert monomial(3).constants == (3, 1)
    assert monomial(4, 2.0).constants == (4, 2), "16 / L1^2"
    assert hyperbolic(3.0, 0.5).constants == (3, 0.5)
    assert constants_of([monomial(4), bowl()]) == (16, 1)


@pytest.mark.parametrize("curve", TIGHT, ids=names[:-2])
def test_what_follows_of_first_order(curve: Curve) -> None:
    """The Gronwall form, its linear form for r <= 1 / L1, and the two bounds of the rise."""
    c = curve.constants
    ratios = []
    for x in np.linspace(-4, 4, 81).tolist():
        for r in (0.01 / c.l1, 0.3 / c.l1, 1 / c.l1):
            for y in (x - r, x + r):
                norm = abs(curve.slope(x))
                gap = abs(curve.slope(y) - curve.slope(x))
                rise = curve.value(y) - curve.value(x) - curve.slope(x) * (y - x)
                ratios.append(gap / gap_bound(c, norm, r))
                assert gap <= (math.e - 1) * (c.l0 + c.l1 * norm) * r * (1 + 1e-12)
                assert rise <= rise_bound(c, norm, r) * (1 + 1e-9) + 1e-12
                assert rise <= (5 * c.l0 + 4 * c.l1 * norm) * r * r / 2
    assert max(ratios) <= 1 + 1e-12
    if curve.name.endswith("- 1)"):
        assert max(ratios) > 0.995, "met by the hyperbolic cosine far out, by short steps"


def test_the_gap_bound_is_met_from_the_bottom() -> None:
    f = hyperbolic(2.0, 0.5)
    assert f.slope(1.0) < gap_bound(f.constants, 0.0, 1.0) < f.slope(1.0) * 1.4
    assert rise_bound(f.constants, 10.0, 1e-3) == pytest.approx(7 * 1e-6 / 2, rel=1e-3)


def test_where() -> None:
    assert where(monomial(3).slope, 3e8) == pytest.approx(1e4, rel=1e-15)
    assert where(bowl().value, 0.0) < 1e-150
    for target in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"where needs a finite target of 0.0 or more"):
            where(bowl().value, target)


def test_bad_input() -> None:
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"hyperbolic needs a finite l0 > 0, got"):
            hyperbolic(bad)
        with pytest.raises(ValueError, match=r"flat needs a finite eps > 0, got"):
            flat(bad)
    with pytest.raises(ValueError, match="degree of 3 or more, got 2"):
        monomial(2)
    with pytest.raises(ValueError, match="finite norm >= 0, got -1"):
        rise_bound(Constants(1.0, 1.0), -1.0, 1.0)
