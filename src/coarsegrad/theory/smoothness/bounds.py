"""Step sizes, and numbers of iterations up to a gradient of eps: equations (9)-(13).

J. Zhang, T. He, S. Sra, A. Jadbabaie 2020, arXiv:1905.11881; eps-stationary is |grad f| <= eps,
Delta = f(x_0) - inf f, and M = sup |grad f| over the x with f(x) <= f(x_0), equation (5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from coarsegrad.theory.smoothness.curves import Constants, positive


class Clipping(NamedTuple):
    """eta_c and gamma of equation (7)."""

    eta: float
    gamma: float


def clipping(constants: Constants) -> Clipping:
    r"""Return the step sizes of clipped gradient descent for which bound (9) is proved.

    .. math:: \eta_c = \frac{1}{10 L_0}, \qquad
              \gamma = \min\left(\frac{1}{\eta_c}, \frac{1}{10 L_1 \eta_c}\right)

    Raises:
        ValueError: L0 is not above 0, or L1 is negative.

    >>> clipping(Constants(1.0, 2.0))
    Clipping(eta=0.1, gamma=0.5)
    """
    _check("clipping", constants)
    eta = 1 / (10 * constants.l0)
    return Clipping(eta, min(1, 1 / (10 * constants.l1) if constants.l1 else 1) / eta)


def gd_step(constants: Constants, m: float) -> float:
    """Return h = 1 / (2 (M L1 + L0)), the fixed step for which bound (12) is proved.

    Raises:
        ValueError: L0 or M is not above 0, or L1 is negative.

    >>> gd_step(Constants(1.0, 1.0), m=9.0)
    0.05
    """
    _check("gd_step", constants, m=m)
    return 1 / (2 * (m * constants.l1 + constants.l0))


def steep_limit(l1: float, m: float) -> float:
    """Return 2 (log M + 1) / (M L1): with a larger step, gradient descent on ``steep`` diverges.

    Raises:
        ValueError: L1 is not above 0, or M is below 1: the steep part begins at slope 1.

    >>> steep_limit(1.0, 1.0)
    2.0
    """
    positive("steep_limit", l1=l1, m=m)
    if m < 1:
        raise ValueError(f"steep_limit needs an M of 1 or more, got {m!r}")
    return 2 * (math.log(m) + 1) / (m * l1)


def clipped_bound(constants: Constants, delta: float, eps: float) -> float:
    r"""Return the most iterations that clipped gradient descent needs, equation (9).

    .. math:: \frac{20 L_0 \Delta}{\epsilon^2} + \frac{20 \max(1, L_1^2) \Delta}{L_0}

    An unclipped step lowers f by eps^2 / (20 L0) or more, a clipped one by 5 L0 min(1, 1/(100
    L1^2)).

    Raises:
        ValueError: L0, Delta or eps is not above 0, or L1 is negative.

    >>> round(clipped_bound(Constants(1.0, 1.0), delta=1.0, eps=0.02))
    50020
    """
    _check("clipped_bound", constants, delta=delta, eps=eps)
    l0, l1 = constants
    return 20 * l0 * delta / eps**2 + 20 * max(1.0, l1**2) * delta / l0


def clipped_order(constants: Constants, delta: float, eps: float) -> float:
    r"""Return L0 Delta / eps^2 + L1^2 Delta / L0: equation (10), without its O.

    Bound (9) is at most 40 times this where eps <= L0. Beyond, its max(1, L1^2) counts, which (10)
    leaves out, and no constant does.

    Raises:
        ValueError: L0, Delta or eps is not above 0, or L1 is negative.

    >>> round(clipped_order(Constants(1.0, 1.0), delta=1.0, eps=0.02))
    2501
    """
    _check("clipped_order", constants, delta=delta, eps=eps)
    l0, l1 = constants
    return l0 * delta / eps**2 + l1**2 * delta / l0


def gd_bound(constants: Constants, m: float, delta: float, eps: float) -> float:
    """Return 4 (M L1 + L0) Delta / eps^2, the most iterations with ``gd_step``, equation (12).

    Raises:
        ValueError: L0, M, Delta or eps is not above 0, or L1 is negative.

    >>> round(gd_bound(Constants(1.0, 1.0), m=9.0, delta=1.0, eps=0.1))
    4000
    """
    _check("gd_bound", constants, m=m, delta=delta, eps=eps)
    return 4 * (m * constants.l1 + constants.l0) * delta / eps**2


def gd_lower_bound(l1: float, m: float, delta: float, eps: float) -> float:
    r"""Return the iterations that no fixed step undercuts on both ``steep`` and ``flat``, (13).

    .. math:: \frac{L_1 M (\Delta - 5 \epsilon / 4)}{8 \epsilon^2 (\log M + 1)}

    From the two functions: ``steep`` forbids larger steps than ``steep_limit``, and with those
    ``flat`` takes so long. Delta is the gap of ``flat``; that of ``steep`` is (M - 1/2) / L1.

    Raises:
        ValueError: a number is not above 0, M is below 1, or Delta is at most 5 eps / 4, the gap
            from which ``flat`` is not flat.

    >>> round(gd_lower_bound(1.0, m=1e4, delta=1.0, eps=0.02))
    298411
    """
    positive("gd_lower_bound", delta=delta, eps=eps)
    if delta <= 5 * eps / 4:
        raise ValueError(
            f"gd_lower_bound needs delta > 5 eps / 4 = {5 * eps / 4:g}, got {delta!r}; lower eps"
        )
    return (delta - 5 * eps / 4) / (4 * eps**2 * steep_limit(l1, m))


def gap_bound(constants: Constants, norm: float, r: float) -> float:
    r"""Return the most that the gradient changes within a distance r of a gradient of this norm.

    .. math:: |\nabla f(y) - \nabla f(x)| \leq
              \left(\frac{L_0}{L_1} + |\nabla f(x)|\right) (e^{L_1 r} - 1)

    By Gronwall's inequality; met by ``hyperbolic``. For r <= 1 / L1 it is at most
    (e - 1) (L0 + L1 \|grad f(x)\|) r.

    Raises:
        ValueError: L0, L1 or r is not above 0, or the norm is negative.

    >>> round(gap_bound(Constants(2.0, 1.0), norm=0.0, r=1.0), 6)
    3.436564
    """
    _check("gap_bound", constants, l1=constants.l1, r=r)
    _norm("gap_bound", norm)
    return (constants.l0 / constants.l1 + norm) * math.expm1(constants.l1 * r)


def rise_bound(constants: Constants, norm: float, r: float) -> float:
    r"""Return the most by which f(y) exceeds its linear part at x, where \|x - y\| = r.

    .. math:: f(y) - f(x) - \langle\nabla f(x), y - x\rangle \leq
              (L_0 + L_1 |\nabla f(x)|) \frac{e^{s} - 1 - s}{L_1^2}, \qquad s = L_1 r

    The paper's (5 L0 + 4 L1 \|grad f(x)\|) r^2 / 2 for r <= 1 / L1 is larger.

    Raises:
        ValueError: L0, L1 or r is not above 0, or the norm is negative.

    >>> round(rise_bound(Constants(1.0, 1.0), norm=0.0, r=1.0), 6)
    0.718282
    """
    _check("rise_bound", constants, l1=constants.l1, r=r)
    _norm("rise_bound", norm)
    s = constants.l1 * r
    return (constants.l0 + constants.l1 * norm) * (math.expm1(s) - s) / constants.l1**2


def _check(name: str, constants: Constants, **more: float) -> None:
    positive(name, l0=constants.l0, **more)
    if not 0 <= constants.l1 < math.inf:
        raise ValueError(f"{name} needs a finite l1 >= 0, got {constants.l1!r}")


def _norm(name: str, norm: float) -> None:
    if not 0 <= norm < math.inf:
        raise ValueError(f"{name} needs a finite norm >= 0, got {norm!r}")
