r"""The twin of BAMSProd, Algorithm 1, in one dimension, with every reading of its limit c*."""

from __future__ import annotations

import math
from typing import Any, Literal

from coarsegrad.theory.online.numbers import Numbers
from coarsegrad.theory.online.rules import projection
from coarsegrad.theory.online.setting import Setting, Step

CStar = Literal["relative", "grad", "constant", "literal"]


def bamsprod(
    setting: Setting, numbers: Numbers, *,
    cstar: CStar = "relative", alpha: float = 1.0, rho_min: float = 0.05, kappa: float = 1.0,
    c: float = 1.0, L_inf: float = 1.0, D_inf: float = 2.0, gamma: float | None = None,
    reduce: Literal["mean", "sum"] = "mean", own_step: bool = False,
    stay: bool = False,
) -> Step:  # fmt: skip
    r"""Return AMSGrad with vhat clipped into nested intervals [c_l, c_u] that close on c*.

    ``optim.BAMSProd`` has the formulas; here d = 1, where mean|w| would make the error zero, so
    alpha is a number. As there, statistics of step t bound step t + 1, and a constant c its own.

    Args:
        setting: step size, betas, box.
        numbers: floats, or arrays of independent runs that see their first gradient together.
        cstar: ``relative``; ``grad``, with rho = 1; ``constant``, the number ``c``; ``literal``,
            L_inf D_inf sqrt(sqrt(vhat) (abs(w) - alpha)^2) as printed.
        alpha: the binary scale.
        rho_min: floor of the relative error, in (0, 1].
        kappa: scale of sqrt(c).
        c: the limit of ``constant``, in units of g^2.
        L_inf: the Lipschitz constant of ``literal``.
        D_inf: the diameter of the box.
        gamma: speed at which the bounds close; None is 1 - beta2.
        reduce: ``mean`` of the estimates over steps, or their ``sum`` as printed. A sum grows, so
            that no c_u can fall towards it: c_u then stays infinite.
        own_step: take the error of w_t and bound step t by it, as Algorithm 1 reads; ``optim``
            needs one pass over memory, and so takes that of w_{t+1} and bounds step t + 1.
        stay: read m / sqrt(0) as no step; otherwise the root is at least eps, and the step is as
            long as the box.

    Raises:
        ValueError: ``rho_min`` is not in (0, 1], or ``cstar`` or ``reduce`` is no such word.

    >>> from coarsegrad.theory.online.numbers import FLOATS
    >>> step = bamsprod(Setting(betas=(0.0, 0.75)), FLOATS)
    >>> round(step(0.0, 3.0, 1)[0], 6)
    -0.2
    """
    _check(cstar, reduce, rho_min)
    beta2, project = setting.betas[1], projection(setting, numbers)
    sqrt, maximum, minimum, eps = numbers.sqrt, numbers.maximum, numbers.minimum, setting.eps
    speed = 1 - beta2 if gamma is None else gamma
    momentum, sizes = setting.momenta(), setting.sizes()
    early = own_step or cstar == "constant"
    m = v = vhat = c_l = mean = 0.0
    c_u = math.inf
    n = 0

    def narrow(c_hat: Any, ahead: int) -> None:
        nonlocal n, mean, c_l, c_u
        n += 1
        mean = mean + c_hat if reduce == "sum" else mean + (c_hat - mean) / n
        x = speed * (n + ahead)
        if reduce == "mean":
            c_u = minimum(c_u, maximum(mean * (1 + 1 / x), c_l))
        c_l = maximum(c_l, minimum(mean / (1 + 1 / x), c_u))

    def root(value: Any) -> Any:
        if stay:
            return numbers.where(value > 0, sqrt(value), math.inf)
        return maximum(sqrt(value), eps)

    def error(w: Any) -> Any:
        off = abs(w) - alpha
        return off * off

    def estimate(w: Any) -> Any:
        if cstar == "grad":
            return kappa * kappa * vhat
        if cstar == "literal":
            return L_inf * D_inf * sqrt(sqrt(vhat) * error(w))
        # 0/0 where w = 0: no magnitude to compare with, taken as the worst error.
        rho2 = error(w) / maximum(w * w, 1e-300)
        return kappa * kappa * minimum(maximum(rho2, rho_min * rho_min), 1.0) * vhat

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal m, v, vhat
        beta1 = momentum(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        vhat = maximum(vhat, v)
        seen = _seen(numbers, vhat)
        if seen and early:
            narrow(c if cstar == "constant" else estimate(w), 0)
        value = minimum(maximum(vhat, c_l), c_u)
        size, second = sizes(t)
        w = project(w - size * second * m / root(value))
        if seen and not early:
            narrow(estimate(w), 1)
        return w, value, v

    return step


def _seen(numbers: Numbers, vhat: Any) -> bool:
    """Whether there was a gradient: before the first, c_u = 0 would lock for ever."""
    if numbers.every(vhat > 0):
        return True
    if numbers.some(vhat > 0):
        raise ValueError(
            "bamsprod on arrays needs runs that see their first gradient in the same step, got "
            "some with and some without; run them one by one"
        )
    return False


def _check(cstar: str, reduce: str, rho_min: float) -> None:
    words = ("relative", "grad", "constant", "literal")
    if cstar not in words:
        raise ValueError(f"bamsprod needs cstar of {', '.join(words)}, got {cstar!r}")
    if reduce not in ("mean", "sum"):
        raise ValueError(f"bamsprod needs reduce of mean, sum, got {reduce!r}")
    if not 0 < rho_min <= 1:
        raise ValueError(f"bamsprod needs rho_min in (0, 1], got {rho_min}")
