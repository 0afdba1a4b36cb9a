"""BAMSProd's interval [c_l, c_u]: estimates of its limit c*, and how it closes on it.

A tensor's interval is one float64 tensor ``bounds`` with rows (n, c, c_l, c_u), of shape (4,), or
(4, K) where each of K output channels has its own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Estimate = tuple[Tensor, Tensor, Tensor]


def start(channels: int | None, device: torch.device) -> Tensor:
    """Return the interval [0, inf] before any gradient; ``channels=None`` is one for the tensor."""
    rows = torch.tensor([0.0, 0.0, 0.0, math.inf], dtype=torch.float64, device=device)
    return rows if channels is None else rows[:, None].repeat(1, channels)


def channels(parameter: Tensor) -> int:
    """Return how many output channels share a binary scale: size of dimension 0, or 1."""
    return parameter.shape[0] if parameter.dim() > 1 else 1


def estimate(
    group: dict[str, Any], w: Tensor, vhat: Tensor, h: Tensor, scratch: Tensor
) -> Estimate:
    """Return (c_hat, sum of vhat, rho^2), float64, 0-d or (K,) for ``per="channel"``.

    With h = sqrt(vhat) and sums per output channel k, alpha_k = mean|W_k| is found in one pass::

        sum h (|W| - alpha)^2 = sum h W^2 - 2 sum_k alpha_k S_h|w|,k + sum_k alpha_k^2 S_h,k

    ``h`` and ``scratch``, of the shape of w, are overwritten: fresh memory costs more than sums.
    """
    dims = tuple(range(1, w.dim())) if w.dim() > 1 else None

    def total(x: Tensor) -> Tensor:
        kept = x.sum() if dims is None else x.sum(dims)
        return kept.double().reshape(-1)

    size = w.numel() / max(channels(w), 1)
    per_channel = group["per"] == "channel"

    def whole(x: Tensor) -> Tensor:
        return x if per_channel else x.sum()

    s_v = whole(total(vhat))
    elements = size if per_channel else w.numel()
    if group["cstar"] == "grad":
        one = torch.ones_like(s_v)
        return group["kappa"] ** 2 * s_v / max(elements, 1), s_v, one
    magnitude = torch.abs(w, out=scratch)
    s_w, s_h = total(magnitude), total(h)
    s_hw = total(h.mul_(magnitude))
    s_hw2 = whole(total(h.mul_(magnitude)))
    alpha = s_w / max(size, 1) if group["alpha"] is None else torch.full_like(s_w, group["alpha"])
    # Rounding can take a vanishing error a little below 0.
    error = (s_hw2 - 2 * whole(alpha * s_hw) + whole(alpha.square() * s_h)).clamp(min=0)
    # 0/0 where every weight is 0: no magnitude to compare with, taken as the worst error.
    rho2 = (error / s_hw2).nan_to_num(1.0).clamp(group["rho_min"] ** 2, 1)
    if group["cstar"] == "literal":
        return group["L_inf"] * group["D_inf"] * error.sqrt(), s_v, rho2
    return group["kappa"] ** 2 * rho2 * s_v / max(elements, 1), s_v, rho2


def gamma_of(group: dict[str, Any]) -> float:
    """Return the speed at which the interval closes, 1/step; None stands for 1 - beta2."""
    gamma: float = 1 - group["betas"][1] if group["gamma"] is None else group["gamma"]
    return gamma


def narrow(bounds: Tensor, group: dict[str, Any], c_hat: Tensor, seen: Tensor) -> Tensor:
    """Return the interval after one more estimate of c*; rows and any number of columns.

    With x = gamma n, c_u = min(c_u, max(c (1+x)/x, c_l)), then c_l = max(c_l, min(c x/(1+x), c_u)):
    nested and ordered for any estimates. Where ``seen`` is false nothing changes: before the first
    gradient, c_u = 0 would lock for ever; after an overflow, one NaN in c would take every weight
    of the tensor along.
    """
    n, c, c_l, c_u = bounds.unbind()
    n = n + 1
    reduce, parameter = reduction(group["reduce"])
    if reduce == "ema":
        weight = torch.where(n == 1, torch.ones_like(n), torch.full_like(n, 1 - parameter))
    else:
        weight = 1 / n
        if reduce == "freeze":
            weight = torch.where(n <= parameter, weight, torch.zeros_like(n))
    c = c + (c_hat - c) * weight
    limit = c if group["space"] == "v" else c.sqrt()
    # A constant c* is known before the step it bounds; an estimated one bounds the next step.
    x = gamma_of(group) * (n if group["cstar"] == "constant" else n + 1)
    upper = torch.minimum(c_u, torch.maximum(limit * (1 + 1 / x), c_l))
    lower = torch.maximum(c_l, torch.minimum(limit / (1 + 1 / x), upper))
    return torch.where(seen, torch.stack([n, c, lower, upper]), bounds)


def reduction(reduce: Any) -> tuple[str, float]:
    """Return the name and the number of ``reduce``, which may be a bare word."""
    defaults = {"mean": 0.0, "ema": 0.99, "freeze": 100.0}
    return (reduce, defaults[reduce]) if isinstance(reduce, str) else (reduce[0], float(reduce[1]))
