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


def sums(group: dict[str, Any], w: Tensor, vhat: Tensor, h: Tensor, scratch: Tensor) -> Tensor:
    """Return (sum vhat, sum h W^2, E), float64, of shape (3, 1), or (3, K) for ``per="channel"``.

    E = sum h (|W| - alpha)^2 - sum h W^2 with h = sqrt(vhat). alpha_k = mean|W_k| of an output
    channel k is found in the same pass as the rest, since::

        sum h (|W| - alpha)^2 = sum h W^2 - 2 sum_k alpha_k S_h|w|,k + sum_k alpha_k^2 S_h,k

    ``h`` and ``scratch``, of the shape of w, are overwritten: fresh memory costs more than sums.
    """
    dims = tuple(range(1, w.dim())) if w.dim() > 1 else tuple(range(w.dim()))
    # A compiler places temporaries itself, and dynamo refuses ``out`` that is not contiguous.
    magnitude = w.abs() if torch.compiler.is_compiling() else torch.abs(w, out=scratch)
    rows = [vhat.sum(dims), magnitude.sum(dims), h.sum(dims)]
    rows.append(h.mul_(magnitude).sum(dims))
    rows.append(h.mul_(magnitude).sum(dims))
    s_v, s_w, s_h, s_hw, s_hw2 = torch.stack(rows).double().reshape(5, -1).unbind()
    if group["alpha"] is None:
        alpha = s_w * (channels(w) / max(w.numel(), 1))
    else:
        alpha = torch.full_like(s_w, group["alpha"])
    found = torch.stack([s_v, s_hw2, alpha * (alpha * s_h - 2 * s_hw)])
    return found if group["per"] == "channel" else found.sum(1, keepdim=True)


def estimate(group: dict[str, Any], found: Tensor, elements: Tensor) -> Estimate:
    """Return (c_hat, sum of vhat, rho^2) from the columns of ``sums`` and their elements."""
    s_v, s_hw2, cross = found.unbind()
    # Rounding can take a vanishing error a little below 0.
    error = (s_hw2 + cross).clamp(min=0)
    # 0/0 where every weight is 0: no magnitude to compare with, taken as the worst error.
    rho2 = (error / s_hw2).nan_to_num(1.0).clamp(group["rho_min"] ** 2, 1)
    if group["cstar"] == "literal":
        return group["L_inf"] * group["D_inf"] * error.sqrt(), s_v, rho2
    if group["cstar"] == "grad":
        rho2 = torch.ones_like(rho2)
    return group["kappa"] ** 2 * rho2 * s_v / elements, s_v, rho2


def elements(group: dict[str, Any], parameters: list[Tensor]) -> Tensor:
    """Return how many elements share each column of ``sums``, at least 1."""
    counts = []
    for p in parameters:
        columns = channels(p) if group["per"] == "channel" else 1
        counts += [max(p.numel() / max(columns, 1), 1.0)] * columns
    return torch.tensor(counts, dtype=torch.float64, device=parameters[0].device)


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
