"""The moments and step sizes of the adaptive family, as pure functions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from coarsegrad.optim.paths import Ops

BETA1_DECAYS = ("constant", "power", "inverse")
LR_DECAYS = ("none", "invsqrt")


def beta1_at(group: dict[str, Any], t: Any) -> Any:
    """Return beta1 of step t: constant, beta1 lambda^(t-1) (``power``), beta1 / t (``inverse``)."""
    beta1 = group["betas"][0]
    decay = group.get("beta1_decay", "constant")
    if decay == "power":
        return beta1 * group["beta1_lambda"] ** (t - 1)
    return beta1 / t if decay == "inverse" else beta1


def beta1_product(group: dict[str, Any], t: Any) -> Any:
    """Return the product of beta1 over steps 1 .. t, the share of m that is still its start."""
    product = group["betas"][0] ** t
    decay = group.get("beta1_decay", "constant")
    if decay == "power":
        return product * group["beta1_lambda"] ** (t * (t - 1) / 2)
    if decay == "inverse":
        if isinstance(t, Tensor):
            return product * torch.exp(-torch.lgamma(t + 1))
        return product * math.exp(-math.lgamma(t + 1))
    return product


def scheduled(lr: Any, group: dict[str, Any], t: Any) -> Any:
    """Return eta_t = lr, or lr / sqrt(t)."""
    return lr / t**0.5 if group.get("lr_decay") == "invsqrt" else lr


def corrected(eta: Any, group: dict[str, Any], t: Any) -> Any:
    """Return eta' = eta sqrt(1 - beta2^t) / (1 - prod beta1), or eta without bias correction."""
    if not group["bias_correction"]:
        return eta
    return eta * (1 - group["betas"][1] ** t) ** 0.5 / (1 - beta1_product(group, t))


def accumulate(ops: Ops, group: dict[str, Any], g: Any, m: Any, v: Any, t: Any) -> None:
    """Do m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g^2 in place."""
    beta2 = group["betas"][1]
    weight = ops.each(lambda step: 1 - beta1_at(group, step), t)
    if group.get("beta1_decay", "constant") == "constant":
        weight = 1 - group["betas"][0]
    ops.lerp_(m, g, weight)
    ops.mul_(v, beta2)
    ops.addcmul_(v, g, g, 1 - beta2)


def shrink(ops: Ops, group: dict[str, Any], w: Any, eta: Any) -> None:
    """Do the decoupled weight decay w *= 1 - eta weight_decay (AdamW's convention)."""
    if group["weight_decay"]:
        ops.mul_(w, ops.each(lambda rate: 1 - rate * group["weight_decay"], eta))


def project(ops: Ops, group: dict[str, Any], w: Any) -> None:
    """Clamp w into the group's box; groups of real parameters (``binary=False``) have none."""
    if group["box"] is not None and group.get("binary", True):
        ops.clamp_(w, *group["box"])
