"""The optimizers' rules in float64 numpy, option by option: what the fused kernels must equal."""

import math

import numpy as np

BAMSPROD = {
    "by_channel": False, "lr": 1e-2, "beta1": 0.9, "beta2": 0.999, "beta1_decay": "constant",
    "beta1_lambda": 1.0, "eps": 1e-8, "gamma": 1e-3, "weight_decay": 0.0, "box_low": -1.0,
    "box_high": 1.0, "kappa": 1.0, "rho_min": 0.1, "cstar": "relative", "c": 1e-2, "L_inf": 1.0,
    "D_inf": 2.0, "alpha": math.nan, "reduce": "mean", "memory": 0.0, "average": False,
    "inverse_sqrt": False, "bias_correction": True, "sqrt_space": False, "maximize": False,
}  # fmt: skip
BOUND = {
    "lr": 1e-2, "base_lr": 1e-2, "final_lr": 0.1, "beta1": 0.9, "beta2": 0.999, "gamma": 1e-2,
    "eps": 1e-8, "weight_decay": 0.0, "box_low": -math.inf, "box_high": math.inf,
    "bias_correction": True, "maximize": False,
}  # fmt: skip
BOP = {
    "rate": 0.1, "sigma": 0.0, "threshold": 1e-3, "eps": 1e-10, "unbiased": False,
    "maximize": False,
}  # fmt: skip


class State:
    """One tensor, as (channels, elements of one); everything float64."""

    def __init__(self, w, columns=1):
        self.shape = w.shape
        self.channels = w.shape[0] if w.ndim > 1 else 1
        self.w = w.astype(np.float64).reshape(self.channels, w.size // max(self.channels, 1))
        self.m, self.v, self.vhat = (np.zeros_like(self.w) for _ in range(3))
        self.t = 0
        self.bounds = np.zeros((4, columns))
        self.bounds[3] = np.inf
        self.record = np.full(6 + 2 * columns, np.nan)

    def gradient(self, g, o):
        self.t += 1
        g = g.astype(np.float64).reshape(self.w.shape)
        return -g if o["maximize"] else g

    def flips(self, before):
        self.record[3] = np.mean((before < 0) != (self.w < 0))


def rates(o, t):
    """beta1 of step t, eta, and eta with the moments' bias corrected."""
    all_beta1 = [
        {"constant": o["beta1"], "power": o["beta1"] * o["beta1_lambda"] ** (s - 1),
         "inverse": o["beta1"] / s}[o["beta1_decay"]] for s in range(1, t + 1)
    ]  # fmt: skip
    eta = o["lr"] / (math.sqrt(t) if o["inverse_sqrt"] else 1)
    corrected = eta
    if o["bias_correction"]:
        corrected *= math.sqrt(1 - o["beta2"] ** t) / (1 - math.prod(all_beta1))
    return all_beta1[-1], eta, corrected


def narrow(s, o, k, c_hat, seen):
    if not (seen and np.isfinite(c_hat)):
        return
    n, c, c_l, c_u = s.bounds[:, k]
    n += 1
    if o["reduce"] == "ema":
        c = c_hat if n == 1 else o["memory"] * c + (1 - o["memory"]) * c_hat
    elif o["reduce"] == "mean" or n <= o["memory"]:
        c += (c_hat - c) / n
    x = o["gamma"] * (n if o["cstar"] == "constant" else n + 1)
    base = math.sqrt(c) if o["sqrt_space"] else c
    c_u = min(c_u, max(base * (1 + 1 / x), c_l))
    c_l = max(c_l, min(base / (1 + 1 / x), c_u))
    s.bounds[:, k] = n, c, c_l, c_u


def c_hat(w, vhat, o):
    """Estimate of c* and rho from (channels, elements)."""
    h, size = np.sqrt(vhat), np.abs(w)
    alpha = size.mean(1, keepdims=True) if math.isnan(o["alpha"]) else o["alpha"]
    error, hw2 = (h * (size - alpha) ** 2).sum(), (h * size**2).sum()
    rho2 = np.clip(error / hw2, o["rho_min"] ** 2, 1) if hw2 > 0 else 1.0
    found = {
        "relative": o["kappa"] ** 2 * rho2 * vhat.mean(),
        "grad": o["kappa"] ** 2 * vhat.mean(),
        "literal": o["L_inf"] * o["D_inf"] * math.sqrt(error),
        "constant": o["c"],
    }
    return found[o["cstar"]], 1.0 if o["cstar"] == "grad" else math.sqrt(rho2)


def parts(s):
    """The rows of w that share a column of bounds."""
    columns = s.bounds.shape[1]
    return [slice(k, k + 1) for k in range(columns)] if columns > 1 else [slice(None)]


def narrow_all(s, o, g):
    rhos = []
    for k, part in enumerate(parts(s)):
        total = s.vhat[part].sum()
        found, rho = c_hat(s.w[part], s.vhat[part], o)
        seen = total > 0 and np.isfinite(total)
        if o["cstar"] == "constant":
            seen = s.bounds[0, k] > 0 or np.any(g[part] != 0)
        narrow(s, o, k, found, seen)
        rhos.append(rho)
    return np.mean(rhos)


def bamsprod(s, g, o, bounded=True):
    g = s.gradient(g, o)
    beta1, eta, corrected = rates(o, s.t)
    old_vhat, before, constant = s.vhat, s.w, o["cstar"] == "constant"
    s.m = s.m + (1 - beta1) * (g - s.m)
    s.v = o["beta2"] * s.v + (1 - o["beta2"]) * g**2
    s.vhat = s.vhat + (s.v - s.vhat) / s.t if o["average"] else np.maximum(s.vhat, s.v)
    if bounded and constant:
        narrow_all(s, o, g)
    c_l, c_u = (s.bounds[i][:, None].copy() for i in (2, 3)) if bounded else (0.0, np.inf)
    x = np.sqrt(s.vhat) if o["sqrt_space"] else s.vhat
    d = np.clip(x, c_l, c_u)
    d = np.maximum(d if o["sqrt_space"] else np.sqrt(d), o["eps"])
    s.w = s.w * (1 - eta * o["weight_decay"]) - corrected * s.m / d
    s.w = np.clip(s.w, o["box_low"], o["box_high"])

    k = s.bounds.shape[1]
    old_eta, old_l, old_u = s.record[5], *(a[:, None] for a in np.split(s.record[6:], 2))
    old_x = np.sqrt(old_vhat) if o["sqrt_space"] else old_vhat
    power = 1 if o["sqrt_space"] else 0.5
    change = np.clip(x, c_l, c_u) ** power / eta - np.clip(old_x, old_l, old_u) ** power / old_eta
    s.record[1:3] = np.mean(x < c_l), np.mean(x > c_u)
    s.flips(before)
    s.record[4] = np.nan if np.isnan(old_eta) else np.mean(change < 0)
    s.record[5] = eta
    s.record[6 : 6 + k], s.record[6 + k :] = np.ravel(c_l), np.ravel(c_u)
    s.record[0] = narrow_all(s, o, g) if bounded and not constant else np.nan


def amsgrad(s, g, o):
    bamsprod(s, g, o, bounded=False)


def adabound(s, g, o):
    bound(s, g, o, ams=False)


def amsbound(s, g, o):
    bound(s, g, o, ams=True)


def bound(s, g, o, ams):
    g = s.gradient(g, o)
    s.m = s.m + (1 - o["beta1"]) * (g - s.m)
    s.v = o["beta2"] * s.v + (1 - o["beta2"]) * g**2
    s.vhat = np.maximum(s.vhat, s.v)
    rate = o["lr"]
    if o["bias_correction"]:
        rate *= math.sqrt(1 - o["beta2"] ** s.t) / (1 - o["beta1"] ** s.t)
    rate = rate / (np.sqrt(s.vhat if ams else s.v) + o["eps"])
    ratio = o["lr"] / o["base_lr"] if o["base_lr"] else float(o["lr"] > 0)
    low = o["final_lr"] * ratio * (1 - 1 / (o["gamma"] * s.t + 1))
    high = o["final_lr"] * ratio * (1 + 1 / (o["gamma"] * s.t))
    before = s.w
    s.w = s.w * (1 - o["lr"] * o["weight_decay"]) - np.clip(rate, low, high) * s.m
    s.w = np.clip(s.w, o["box_low"], o["box_high"])
    s.record[:6] = np.nan
    s.record[1:3] = np.mean(rate < low), np.mean(rate > high)
    s.flips(before)


def bop2(s, g, o):
    bop(s, g, o, second=True)


def bop(s, g, o, second=False):
    g = s.gradient(g, o)
    s.m = s.m + o["rate"] * (g - s.m)
    s.v = s.v + o["sigma"] * (g**2 - s.v)
    push = s.w * (s.m / o["rate"] if o["unbiased"] else s.m)
    if second:
        push = push / (np.sqrt(s.v / o["sigma"] if o["unbiased"] else s.v) + o["eps"])
    before = s.w
    s.w = np.where(push > o["threshold"], -s.w, s.w)
    s.record[:6] = np.nan
    s.flips(before)
