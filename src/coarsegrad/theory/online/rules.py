r"""Scalar float64 twins of the optimizers, in the papers' symbols: closures over their moments.

Each factory takes a ``Setting`` and the ``Numbers`` to run on and returns ``step(w, g, t) ->
(w', vtilde, v)``, where eta_t m / sqrt(vtilde) is the step before the projection on the box. Arrays
are independent runs side by side: no rule here mixes their elements. ``v`` is the moving average of
g^2 with beta2, kept where a rule has no use for it because the bounds of Theorem 4 have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coarsegrad.theory.online.numbers import Numbers
from coarsegrad.theory.online.setting import Setting, Step


def projection(setting: Setting, numbers: Numbers) -> Callable[[Any], Any]:
    """Return the projection on the box; with a diagonal V it is a clamp in any norm.

    >>> from coarsegrad.theory.online.numbers import FLOATS
    >>> projection(Setting(), FLOATS)(-3.0)
    -1.0
    """
    if setting.box is None:
        return lambda w: w
    low, high = setting.box
    maximum, minimum = numbers.maximum, numbers.minimum
    return lambda w: minimum(maximum(w, low), high)


def sgd(setting: Setting, numbers: Numbers) -> Step:
    """Return w' = w - eta_t g, with vtilde = 1.

    >>> from coarsegrad.theory.online.numbers import FLOATS
    >>> sgd(Setting(eta=0.5), FLOATS)(1.0, 1.0, 1)[0]
    0.5
    """
    beta2, project, v = setting.betas[1], projection(setting, numbers), 0.0
    rate = setting.rates()

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal v
        v = beta2 * v + (1 - beta2) * g * g
        return project(w - rate(t) * g), 1.0, v

    return step


def adagrad(setting: Setting, numbers: Numbers) -> Step:
    """Return w' = w - eta g / (sqrt(sum g^2) + eps): eta_t / sqrt(vtilde), vtilde = sum g^2 / t.

    The sum is its decay, so eta stays as it is: ``invsqrt`` must be True, and says no more than
    that vtilde is a mean.

    Raises:
        ValueError: ``setting.invsqrt`` is False.
    """
    if not setting.invsqrt:
        raise ValueError("adagrad needs invsqrt=True, got False: its rate falls by itself")
    beta2, project, sqrt = setting.betas[1], projection(setting, numbers), numbers.sqrt
    eta, eps = setting.eta, setting.eps
    total = v = 0.0

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal total, v
        total = total + g * g
        v = beta2 * v + (1 - beta2) * g * g
        return project(w - eta * g / (sqrt(total) + eps)), total / t, v

    return step


def adam(setting: Setting, numbers: Numbers, *, amsgrad: bool = False) -> Step:
    """Return w' = w - eta_t m / (sqrt(v) + eps), or with vhat = max(vhat, v) in place of v.

    >>> from coarsegrad.theory.online.numbers import FLOATS
    >>> round(adam(Setting(betas=(0.0, 0.75)), FLOATS)(0.0, 3.0, 1)[0], 6)
    -0.2
    """
    beta2, project = setting.betas[1], projection(setting, numbers)
    sqrt, maximum, eps = numbers.sqrt, numbers.maximum, setting.eps
    momentum, sizes = setting.momenta(), setting.sizes()
    m = v = vhat = 0.0

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal m, v, vhat
        beta1 = momentum(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        vhat = maximum(vhat, v) if amsgrad else v
        size, second = sizes(t)
        return project(w - size * m / (sqrt(vhat) / second + eps)), vhat, v

    return step


def amsgrad(setting: Setting, numbers: Numbers) -> Step:
    """Return ``adam`` with the largest v so far."""
    return adam(setting, numbers, amsgrad=True)


def adabound(
    setting: Setting, numbers: Numbers, *, final_lr: float = 0.1, gamma: float = 1e-3,
    amsbound: bool = False,
) -> Step:  # fmt: skip
    """Return Adam with its rate clipped into final_lr (1 -+ ...), and all of it over sqrt(t).

    vtilde = (eta_t / rate)^2 is what the clipped rate amounts to.
    """
    beta2, project = setting.betas[1], projection(setting, numbers)
    sqrt, maximum, minimum = numbers.sqrt, numbers.maximum, numbers.minimum
    eta, eps, root = setting.eta, setting.eps, math.sqrt if setting.invsqrt else lambda t: 1.0
    momentum, sizes = setting.momenta(), replace(setting, invsqrt=False).sizes()
    m = v = vhat = 0.0

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal m, v, vhat
        beta1 = momentum(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        vhat = maximum(vhat, v) if amsbound else v
        size, second = sizes(t)
        close = 1 + 1 / (gamma * t)
        rate = minimum(maximum(size * second / (sqrt(vhat) + eps), final_lr / close),
                       final_lr * close)  # fmt: skip
        ratio = eta / rate
        return project(w - rate / root(t) * m), ratio * ratio, v

    return step


def amsbound(
    setting: Setting, numbers: Numbers, *, final_lr: float = 0.1, gamma: float = 1e-3
) -> Step:
    """Return ``adabound`` with the largest v so far."""
    return adabound(setting, numbers, final_lr=final_lr, gamma=gamma, amsbound=True)


def bop(
    setting: Setting, numbers: Numbers, *, gamma: float = 1e-2, threshold: float = 1e-6
) -> Step:
    """Return w' = -w where w m > threshold, m = (1 - gamma) m + gamma g; w must be -1 or +1.

    It divides by nothing: its vtilde is NaN, and the bounds say nothing of it. Step size, betas and
    box of the setting do not apply.
    """
    where, nan = numbers.where, math.nan
    m = 0.0

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        nonlocal m
        m = m + gamma * (g - m)
        return where(w * m > threshold, -w, w), nan, nan

    return step
