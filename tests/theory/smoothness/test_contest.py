"""Gradient descent against clipped: bounds, growth with M."""

from __future__ import annotations

import math

import pytest

from coarsegrad.theory.smoothness import (
    Constants,
    Count,
    Plane,
    class_experiment,
    clipped_bound,
    clipped_order,
    clipping,
    gd_bound,
    gd_lower_bound,
    gd_step,
    growth_exponent,
    hyperbolic,
    monomial,
    proved_steps,
    steep_limit,
    tuned_steps,
)

# The counts of the specification, C4: flat and steep, plain and clipped.
COUNTS = {
    1e1: (973, 6, 6301, 61), 1e2: (5735, 43, 6301, 84), 1e3: (40650, 312, 6301, 107),
    1e4: (314826, 2413, 6301, 130), 1e5: (2568928, 19390, 6301, 153),
}  # fmt: skip


def counts(m: float, *, slow: bool = False) -> dict[tuple[str, str], Count]:
    return {(c.function, c.method): c for c in class_experiment(m, slow=slow)}


def check(m: float) -> dict[tuple[str, str], Count]:
    found = counts(m)
    assert all(count.within for count in found.values())
    order = (("flat", "gd"), ("steep", "gd"), ("flat", "clipped"), ("steep", "clipped"))
    assert tuple(found[key].iterations for key in order) == COUNTS[m]
    assert found["flat", "clipped"].upper == pytest.approx(50_020)
    return found


def check_growth(ms: tuple[float, ...]) -> None:
    """Like M / log M, to the last percent, and clipped not at all."""
    found = [check(m) for m in ms]
    scaled = [
        c["flat", "gd"].iterations * (math.log(m) + 1) / m for c, m in zip(found, ms, strict=True)
    ]  # type: ignore[operator]
    assert max(scaled) / min(scaled) < 1.01
    assert len({c["flat", "clipped"].iterations for c in found}) == 1
    logarithm = [
        c["steep", "clipped"].iterations - 10 * math.log(m) for c, m in zip(found, ms, strict=True)
    ]  # type: ignore[operator]
    assert max(logarithm) - min(logarithm) < 2, "one more a tenth of log M: steps of 1/10"


def test_the_class_experiment() -> None:
    check_growth((1e1, 1e2, 1e3, 1e4))


@pytest.mark.slow
def test_the_class_experiment_in_its_long_form() -> None:
    check_growth((1e1, 1e2, 1e3, 1e4, 1e5))
    assert all(c.within for c in counts(1e3, slow=True).values())


def test_the_class_experiment_with_the_step_of_its_proof() -> None:
    found = counts(10.0, slow=True)
    assert all(count.within for count in found.values())
    assert found["flat", "gd (12)"].iterations == 13_861
    assert found["flat", "gd (12)"].upper == pytest.approx(110_000)


def test_a_gap_that_the_steep_function_has_too() -> None:
    """With one Delta for both, Delta >= M - 1/2: all of it scales, and the ratio stays."""
    one, ten = counts(10.0, slow=False), {
        (c.function, c.method): c for c in class_experiment(10.0, delta=9.5)
    }  # fmt: skip
    assert all(count.within for count in ten.values())
    ratios = [c["flat", "gd"].iterations / c["flat", "clipped"].iterations for c in (one, ten)]  # type: ignore[operator]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.01)


@pytest.mark.parametrize("curve", [hyperbolic(), monomial(4)], ids=["cosh", "x^4"])
def test_tuned_against_tuned(curve: object) -> None:
    assert isinstance(curve, type(hyperbolic()))
    found: dict[str, list[Count]] = {}
    for m in (1e1, 1e2, 1e3, 1e4):
        for count in (*proved_steps(Plane(curve, m), gd=m < 1e4), *tuned_steps(Plane(curve, m))):
            assert count.within
            found.setdefault(count.method, []).append(count)
    assert growth_exponent(found["gd (12)"]) > 0.7
    assert growth_exponent(found["gd tuned"]) > 0.6
    assert abs(growth_exponent(found["clipped"])) < 0.15
    assert growth_exponent(found["clipped tuned"]) < 0.3
    last = {method: of[-1].iterations for method, of in found.items()}
    assert last["gd tuned"] > 100 * last["clipped tuned"]  # type: ignore[operator]


def test_starts_have_the_slope_and_the_gap() -> None:
    plane = Plane(monomial(4), 1000.0)
    x, y = plane.start
    assert y == 1
    assert x**4 + 0.5 == pytest.approx(plane.gap)
    assert monomial(4).slope(plane.gap**0.25) == pytest.approx(1000)
    assert 0 < 1000 - math.hypot(monomial(4).slope(x), y) < 10, "M is met elsewhere below f(x_0)"


def test_bounds() -> None:
    c = Constants(2.0, 3.0)
    assert clipping(c) == (1 / 20, 20 / 30)
    assert clipping(Constants(2.0, 0.01)) == (1 / 20, 20), "gamma eta is at most 1"
    assert clipping(Constants(2.0, 0.0)) == (1 / 20, 20)
    assert clipped_bound(c, 5.0, 0.1) == pytest.approx(20 * 2 * 5 / 0.01 + 20 * 9 * 5 / 2)
    assert clipped_order(c, 5.0, 0.1) == pytest.approx(2 * 5 / 0.01 + 9 * 5 / 2)
    assert gd_step(c, 4.0) == 1 / 28
    assert gd_bound(c, 4.0, 5.0, 0.1) == pytest.approx(4 * 14 * 5 / 0.01)
    assert gd_lower_bound(3.0, math.e, 5.0, 0.1) == pytest.approx(
        3 * math.e * (5 - 0.125) / (8 * 0.01 * 2)
    )


def test_order_10_leaves_out_a_case_of_bound_9() -> None:
    """For eps <= L0 it is within 40 times; for L1 -> 0 and eps > L0 no factor is enough."""
    for l0, l1, eps in ((1.0, 1e-3, 1.0), (2.0, 5.0, 0.1), (0.5, 1e-6, 0.5)):
        c = Constants(l0, l1)
        assert clipped_bound(c, 1.0, eps) <= 40 * clipped_order(c, 1.0, eps) * (1 + 1e-12)
    tight = Constants(0.01, 1e-3)
    assert clipped_bound(tight, 1.0, 10.0) > 1e6 * clipped_order(tight, 1.0, 10.0)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"delta > 5 eps / 4 = 0.025, got 0.02; lower eps"):
        gd_lower_bound(1.0, 10.0, 0.02, 0.02)
    with pytest.raises(ValueError, match=r"3 eps <= L0 = 1, got eps = 0.4"):
        next(class_experiment(10.0, eps=0.4))
    with pytest.raises(ValueError, match=r"M of 1 or more, got 0.5"):
        steep_limit(1.0, 0.5)
    with pytest.raises(ValueError, match="finite l1 >= 0, got -1"):
        clipping(Constants(1.0, -1.0))
    with pytest.raises(ValueError, match=r"Plane needs an m at which f is above 1/2, got 0.1"):
        Plane(hyperbolic(), 0.1)
    with pytest.raises(ValueError, match="got 1 ended of 2 at 1 different M"):
        growth_exponent([Count("f", "gd", 10.0, 5), Count("f", "gd", 20.0, None)])
