"""Functions of one variable whose (L0, L1) is known, and their sums over the coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final


class Constants(NamedTuple):
    r"""L0 and L1 of \|f''(x)\| <= L0 + L1 \|f'(x)\|, equation (3) of Zhang et al. 2020."""

    l0: float
    l1: float


@final
@dataclass(frozen=True)
class Curve:
    """A twice differentiable f: R -> R, float64, with its derivatives.

    Attributes:
        name: a formula.
        value: f.
        slope: f'.
        curvature: f''.
        constants: L0 and L1 for which it is (L0, L1)-smooth; the examples' are the least L0 for
            their L1.
    """

    name: str
    value: Callable[[float], float]
    slope: Callable[[float], float]
    curvature: Callable[[float], float]
    constants: Constants


def hyperbolic(l0: float = 1.0, l1: float = 1.0) -> Curve:
    r"""Return f(x) = (L0 / L1^2) (cosh(L1 x) - 1), exactly (L0, L1)-smooth and not L-smooth.

    Raises:
        ValueError: a constant is not finite and above 0.

    >>> f = hyperbolic(3.0, 0.5)
    >>> f.curvature(0.0), f.curvature(80.0) / (3.0 + 0.5 * f.slope(80.0)) > 1 - 1e-9
    (3.0, True)
    """
    positive("hyperbolic", l0=l0, l1=l1)
    return Curve(
        f"{l0 / l1**2:g} (cosh({l1:g} x) - 1)",
        lambda x: l0 / l1**2 * (math.cosh(l1 * x) - 1),
        lambda x: l0 / l1 * math.sinh(l1 * x),
        lambda x: l0 * math.cosh(l1 * x),
        Constants(l0, l1),
    )


def monomial(degree: int, l1: float = 1.0) -> Curve:
    r"""Return f(x) = x^p, (L0, L1)-smooth for every L1 > 0, and not L-smooth from p = 3 on.

    .. math:: L_0 = p \left(\frac{p - 2}{L_1}\right)^{p - 2}

    is the least, met at x = (p - 2) / L1: 16 / L1^2 for x^4 and 3 / L1 for x^3.

    Raises:
        ValueError: the degree is below 3 or no integer, or L1 is not finite and above 0.

    >>> monomial(4).constants, monomial(3).constants
    (Constants(l0=16.0, l1=1.0), Constants(l0=3.0, l1=1.0))
    """
    if not isinstance(degree, int) or degree < 3:
        raise ValueError(f"monomial needs a degree of 3 or more, got {degree!r}")
    positive("monomial", l1=l1)
    p = degree
    return Curve(
        f"x^{p}",
        lambda x: x**p,
        lambda x: p * x ** (p - 1),
        lambda x: p * (p - 1) * x ** (p - 2),
        Constants(p * ((p - 2) / l1) ** (p - 2), l1),
    )


def steep(l1: float = 1.0) -> Curve:
    r"""Return the steep function of the lower bound (13), (L1, L1)-smooth.

    .. math:: f(x) = \frac{L_1 x^2}{2} + \frac{1}{2 L_1} \quad (|x| \leq 1/L_1), \qquad
              \frac{e^{L_1 |x| - 1}}{L_1} \quad (|x| > 1/L_1)

    Started at its slope M, gradient descent diverges with every step above ``steep_limit``.

    Raises:
        ValueError: L1 is not finite and above 0.

    >>> f = steep(2.0)
    >>> f.slope(0.5), f.slope(-0.5), round(f.slope(1.0), 4)
    (1.0, -1.0, 2.7183)
    """
    positive("steep", l1=l1)

    def value(x: float) -> float:
        s = l1 * abs(x)
        return l1 * x * x / 2 + 1 / (2 * l1) if s <= 1 else math.exp(s - 1) / l1

    def slope(x: float) -> float:
        s = l1 * abs(x)
        return l1 * x if s <= 1 else math.copysign(math.exp(s - 1), x)

    def curvature(x: float) -> float:
        return l1 * max(1.0, math.exp(l1 * abs(x) - 1))

    return Curve("steep", value, slope, curvature, Constants(l1, l1))


def flat(eps: float) -> Curve:
    r"""Return the flat function of the lower bound (13): slope 2 eps but for \|x\| < 1.

    .. math:: f(x) = \frac{\epsilon}{4} (6 x^2 - x^4) \quad (|x| \leq 1), \qquad
              2 \epsilon (|x| - 1) + \frac{5 \epsilon}{4} \quad (|x| > 1)

    (3 eps, 0)-smooth. Where \|x\| > 1, a fixed step h moves by 2 eps h, however large the gap is.

    Raises:
        ValueError: eps is not finite and above 0.

    >>> f = flat(0.25)
    >>> f.value(3.0), f.slope(3.0), f.slope(-1.0), f.curvature(0.0)
    (1.3125, 0.5, -0.5, 0.75)
    """
    positive("flat", eps=eps)

    def value(x: float) -> float:
        a = abs(x)
        return eps / 4 * (6 * a**2 - a**4) if a <= 1 else 2 * eps * (a - 1) + 5 * eps / 4

    def slope(x: float) -> float:
        return eps * (3 * x - x * x * x) if abs(x) <= 1 else math.copysign(2 * eps, x)

    def curvature(x: float) -> float:
        return 3 * eps * max(0.0, 1 - x * x)

    return Curve("flat", value, slope, curvature, Constants(3 * eps, 0.0))


def bowl() -> Curve:
    """Return f(x) = x^2 / 2: a second coordinate, against steps that end at once by luck.

    >>> bowl().value(3.0)
    4.5
    """
    return Curve("x^2/2", lambda x: x * x / 2, lambda x: x, lambda _: 1.0, Constants(1.0, 0.0))


def constants_of(curves: Sequence[Curve]) -> Constants:
    """Return L0 and L1 of f(x) = f_1(x_1) + ... + f_d(x_d): the largest of the curves'.

    >>> constants_of([monomial(4), bowl()])
    Constants(l0=16.0, l1=1.0)
    """
    return Constants(max(c.constants.l0 for c in curves), max(c.constants.l1 for c in curves))


def where(rising: Callable[[float], float], target: float) -> float:
    """Return the x >= 0 at which a function that rises from 0 on reaches ``target``.

    Raises:
        ValueError: ``target`` is not finite, or below the function at 0.

    >>> round(where(monomial(4).slope, 4000.0), 12)
    10.0
    """
    if not math.isfinite(target) or target < rising(0.0):
        raise ValueError(
            f"where needs a finite target of {rising(0.0)} or more, the function's value at 0, "
            f"got {target!r}"
        )
    high = 1.0
    while rising(high) < target:
        high *= 2
    low = 0.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return high


def positive(name: str, **values: float) -> None:
    """Refuse numbers that are not finite and above 0; ``name`` is the function's.

    >>> positive("descend", eps=0.1)
    """
    for argument, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} needs a finite {argument} > 0, got {value!r}")
