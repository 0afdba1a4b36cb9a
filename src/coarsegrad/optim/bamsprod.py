r"""BAMSProd: AMSGrad whose second moment is projected into bounds tied to the quantization error.

Liu et al., "BAMSProd: A Step towards Generalizing the Adaptive Optimization Methods to Deep
Binary Model", CVPRW 2020, arXiv:2009.13799, Algorithm 1. The printed limit c* of the bounds has
the wrong unit; ``cstar="relative"``, the default, is a coherent one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from coarsegrad.optim import bounds, checks, fused
from coarsegrad.optim import moments as mo
from coarsegrad.optim.paths import Ops
from coarsegrad.optim.records import Limits, Watch
from coarsegrad.optim.rule import Batch, Rule, counts, number, zeros

CStar = Literal["relative", "grad", "constant", "literal"]


@final
class BAMSProd(Rule):
    r"""AMSGrad with nested bounds on the second moment, and latent weights kept in a box.

    For each latent tensor W, with h = sqrt(vhat) and alpha_k = mean|W_k| per output channel k::

        m     = beta1 m + (1 - beta1) g
        v     = beta2 v + (1 - beta2) g^2;   vhat = max(vhat, v)
        vt    = clip(vhat, c_l, c_u)                                  (the projection)
        eta'  = eta sqrt(1 - beta2^t) / (1 - beta1^t)
        W     = clamp((1 - eta lambda) W - eta' m / max(sqrt(vt), eps), box)
        rho^2 = clip(sum h (|W| - alpha)^2 / sum h W^2, rho_min^2, 1)
        c     = running mean over steps of kappa^2 rho^2 mean(vhat)   (cstar="relative")
        x     = gamma t
        c_u   = min(c_u, max(c (1+x)/x, c_l));   c_l = max(c_l, min(c x/(1+x), c_u))

    The statistics of step t bound step t+1; the first step is unbounded. The intervals
    [c_l, c_u] are nested whatever the gradients are, so vt has a limit: the method moves from
    AMSGrad to momentum SGD with rate eta / sqrt(c). Scaling the loss leaves the path unchanged.
    Real parameters (groups with ``binary=False``) follow AMSGrad, unbounded and unboxed.

    Where the defaults are not the printed ones, and why:

    - ``cstar``: the printed c* (``"literal"``) has the unit f^{3/2} w^{1/2} instead of g^2 and lies
      orders of magnitude above vhat, which turns the method into slow SGD.
    - ``reduce``: the printed sum over steps diverges, since the quantization error does not vanish.
    - ``lr_decay``, ``beta1_decay``: eta / sqrt(t) and a falling beta1 serve the proof and cost
      accuracy.
    - ``bias_correction``: Algorithm 1 has none; it is the choice that mattered most in training.
    - ``rho_min``: without a floor, W = +-alpha gives c_u = 0 and an unbounded step.
    - real parameters: the paper is silent; without quantization error they are not bounded.

    Args:
        params: parameters or groups; ``optim.param_groups(model)`` makes them. Parameters
            without ``binary`` in their group count as latent binary weights.
        lr: eta, in units of the weight.
        betas: (beta1, beta2), each in [0, 1).
        eps: floor of sqrt(vt), in units of g.
        weight_decay: lambda, decoupled: W loses eta lambda W in a step.
        gamma: speed at which the bounds close, in 1/step; None is 1 - beta2.
        kappa: scale of sqrt(c) for ``relative`` and ``grad``.
        rho_min: floor of the relative quantization error rho, in (0, 1].
        cstar: ``relative``; ``grad``, the same with rho = 1; ``constant``, the number ``c``;
            ``literal``, L_inf D_inf sqrt(sum h (|W|-alpha)^2) as printed.
        c: the limit for ``constant``, in units of g^2.
        L_inf: the Lipschitz constant of ``literal``.
        D_inf: the diameter of the box of ``literal``.
        alpha: the binary scale; None is mean|W| per slice of dimension 0 (of the whole tensor
            for one-dimensional parameters).
        reduce: how estimates become c: ``"mean"``, ``("ema", decay)``, or ``("freeze", K)``, the
            mean of the first K; the bare words stand for 0.99 and 100.
        per: one interval per ``"tensor"``, or per output ``"channel"``.
        space: clip ``"v"`` as in Algorithm 1, or ``"sqrt"`` of it as AMSBound does.
        vhat: ``"max"``, or ``"average"``: vhat += (v - vhat) / t, which is not monotone.
        bias_correction: whether eta' corrects the moments' start at zero; never applied to vhat.
        lr_decay: ``"none"``, or ``"invsqrt"``: eta / sqrt(t).
        beta1_decay: ``"constant"``, ``"power"``: beta1 lambda^(t-1), or ``"inverse"``: beta1 / t.
        beta1_lambda: the lambda of ``"power"``, in (0, 1].
        box: (low, high) of latent weights, or None.
        foreach: run list by list; None does so on CUDA. Slower than the default on a CPU.
        maximize: step along the gradient instead of against it.
        capturable: keep every number in tensors, for CUDA graphs.
        fused: one native pass for float32 on the CPU; None and True use it where it applies.
        diagnostics: keep what ``diagnostics()`` tells of each step.

    Raises:
        ValueError: a value out of range, with the range.
        RuntimeError: a sparse or complex gradient, in ``step``.

    >>> w = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    >>> opt = BAMSProd([w], lr=0.1)
    >>> (w**2).sum().backward(); opt.step(); w.data
    tensor([ 0.4000, -0.4000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        gamma: float | None = None,
        kappa: float = 1.0,
        rho_min: float = 0.1,
        cstar: CStar = "relative",
        c: float = 1.0,
        L_inf: float = 1.0,
        D_inf: float = 2.0,
        alpha: float | None = None,
        reduce: str | tuple[str, float] = "mean",
        per: Literal["tensor", "channel"] = "tensor",
        space: Literal["v", "sqrt"] = "v",
        vhat: Literal["max", "average"] = "max",
        bias_correction: bool = True,
        lr_decay: Literal["none", "invsqrt"] = "none",
        beta1_decay: Literal["constant", "power", "inverse"] = "constant",
        beta1_lambda: float = 0.999,
        box: tuple[float, float] | None = (-1.0, 1.0),
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
        diagnostics: bool = False,
    ) -> None:
        options = {key: value for key, value in locals().items() if key not in _NOT_OPTIONS}
        super().__init__(params, {**options, "binary": True})

    def _check(self, group: dict[str, Any]) -> None:
        checks.rate(group)
        checks.betas(group)
        checks.number(
            "Invalid epsilon value", group["eps"], open_low=True,
            why=": it bounds the step where no gradient was seen",
        )  # fmt: skip
        checks.number("Invalid weight_decay value", group["weight_decay"])
        for key in ("gamma", "alpha"):
            if group[key] is not None:
                checks.number(f"Invalid {key} value", group[key], open_low=True, why=", or None")
        for key in ("kappa", "c", "L_inf", "D_inf"):
            checks.number(f"Invalid {key} value", group[key], open_low=True)
        for key in ("rho_min", "beta1_lambda"):
            checks.number(f"Invalid {key} value", group[key], 0, 1, open_low=True)
        checks.choice("cstar", group["cstar"], get_args(CStar))
        checks.choice("per", group["per"], ("tensor", "channel"))
        checks.choice("space", group["space"], ("v", "sqrt"))
        checks.choice("vhat", group["vhat"], ("max", "average"))
        checks.choice("lr_decay", group["lr_decay"], mo.LR_DECAYS)
        checks.choice("beta1_decay", group["beta1_decay"], mo.BETA1_DECAYS)
        _check_reduce(group["reduce"])
        checks.box(group["box"])
        checks.flags(group)

    def _columns(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("m", "v", "vhat", "bounds") if group["binary"] else ("m", "v", "vhat")

    def _new_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        state = {name: zeros(parameter) for name in ("m", "v", "vhat")}
        if group["binary"]:
            columns = bounds.channels(parameter) if group["per"] == "channel" else None
            state["bounds"] = bounds.start(columns, parameter.device)
        return state

    def _fused(self, batch: Batch, shared: Any, record: list[Tensor] | None) -> bool:
        done = fused.bamsprod(batch, record)
        if done and "bounds" in batch.state and batch.group["cstar"] == "relative":
            _warn_if_stuck(batch)
        return done

    def _eager(self, ops: Ops, batch: Batch, shared: Any) -> None:
        group, state = batch.group, batch.state
        if group["binary"] and group["cstar"] == "constant":
            _narrow_constant(ops, batch)
        found = ops.rows(
            lambda path, *row: _update(path, group, *row),
            batch.params, batch.grads, state["m"], state["v"], state["vhat"],
            _intervals(ops, batch), counts(ops, batch), _rooms(ops, state["vhat"]),
        )  # fmt: skip
        if group["binary"] and group["cstar"] != "constant":
            columns = torch.cat([b.reshape(4, -1) for b in state["bounds"]], 1)
            elements = bounds.elements(group, batch.params)
            c_hat, s_v, _ = bounds.estimate(group, torch.cat(found, 1), elements)
            seen = (s_v > 0) & torch.isfinite(s_v) & torch.isfinite(c_hat)
            _write(state["bounds"], bounds.narrow(columns, group, c_hat, seen))
            if ops.name != "traced" and group["cstar"] == "relative":
                _warn_if_stuck(batch)

    def _limits(self, batch: Batch, i: int, watch: Watch) -> Limits:
        group, vhat = batch.group, batch.state["vhat"][i]
        t = float(batch.state["step"][i])
        eta = mo.scheduled(float(group["lr"]), group, t)
        if not group["binary"]:
            free = vhat.new_zeros(()), vhat.new_full((), math.inf)
            return Limits(value=vhat, lower=free[0], upper=free[1], eta=eta)
        used = batch.state["bounds"][i] if group["cstar"] == "constant" else watch.bounds[i]
        lower, upper = (_spread(row, vhat) for row in used[2:])
        squared = group["space"] == "v"
        rho = math.nan
        if group["cstar"] != "constant":
            w = batch.params[i]
            found = bounds.sums(group, w, vhat, vhat.sqrt(), torch.empty_like(vhat))
            rho2 = bounds.estimate(group, found, bounds.elements(group, [w]))[2]
            rho = float(rho2.sqrt().mean())
        return Limits(rho, vhat if squared else vhat.sqrt(), lower, upper, eta, squared)


_NOT_OPTIONS = ("self", "params", "__class__")
_LARGE = 1 << 16


def _update(
    ops: Ops,
    group: dict[str, Any],
    w: Any,
    g: Any,
    m: Any,
    v: Any,
    vhat: Any,
    limits: Any,
    t: Any,
    rooms: Any,
) -> Any:
    """Do one step and return the sums for c*, or None; lists in, list out for foreach."""
    mo.accumulate(ops, group, g, m, v, t)
    if group["vhat"] == "max":
        ops.maximum_(vhat, v)
    else:
        ops.lerp_(vhat, v, ops.each(lambda step: 1 / step, t))
    lr = number(group["lr"], ops)
    eta = ops.each(lambda step: mo.scheduled(lr, group, step), t)
    h = ops.sqrt(vhat, ops.each(lambda pair: pair[0], rooms))
    estimated = group["binary"] and group["cstar"] != "constant"
    low, high = (ops.each(lambda pair, k=k: pair[k], limits) for k in (0, 1))
    # The root is needed once more for the statistics, if there are any.
    if estimated:
        d = ops.clamp(h, low, high, ops.each(lambda pair: pair[1], rooms))
    else:
        d = h
        ops.clamp_(d, low, high)
    mo.shrink(ops, group, w, eta)
    size = ops.each(lambda rate, step: -mo.corrected(rate, group, step), eta, t)
    ops.addcdiv_(w, m, d, size)
    mo.project(ops, group, w)
    if not estimated:
        return None
    return ops.each(lambda *x: bounds.sums(group, *x), w, vhat, h, d)


def _intervals(ops: Ops, batch: Batch) -> list[Any]:
    """Return (low, high) of the denominator for each parameter, eps included.

    The root is monotone, so clip(sqrt(vhat), sqrt(c_l), sqrt(c_u)) = sqrt(clip(vhat, c_l, c_u)):
    one root serves the step and the statistics. Floats on the CPU, where a clamp by two numbers
    is vectorised and one by two tensors is not.
    """
    group, eps = batch.group, batch.group["eps"]
    if not group["binary"]:
        return [(eps, math.inf)] * len(batch.params)
    rows = [b[2:].sqrt() if group["space"] == "v" else b[2:] for b in batch.state["bounds"]]
    rows = [row.clamp(min=eps) for row in rows]
    plain = group["per"] == "tensor" and rows[0].is_cpu and ops.name != "traced"
    if plain:
        return [tuple(pair) for pair in torch.stack(rows).tolist()]
    return [
        tuple(_spread(row, w) for row in pair)
        for pair, w in zip(rows, batch.params, strict=True)
    ]  # fmt: skip


def _rooms(ops: Ops, columns: list[Tensor]) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return room for two temporaries of each tensor, or None where fresh memory is as good.

    Tensors that step one after another share two buffers: the heap would hand each pair back to the
    system and fault every page in again, at twice the cost of the arithmetic.
    """
    rooms: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * len(columns)
    if ops.name != "single":
        return rooms
    large = [i for i, x in enumerate(columns) if x.numel() >= _LARGE and x.is_contiguous()]
    for kind in {(columns[i].device, columns[i].dtype) for i in large}:
        alike = [i for i in large if (columns[i].device, columns[i].dtype) == kind]
        size = max(columns[i].numel() for i in alike)
        pair = torch.empty((2, size), device=kind[0], dtype=kind[1])
        for i in alike:
            shape = columns[i].shape
            a, b = (row[: columns[i].numel()].view(shape) for row in pair)
            rooms[i] = a, b
    return rooms


def _spread(row: Tensor, w: Tensor) -> Tensor:
    """Return a bound in w's dtype, 0-d or of shape (K, 1, ...)."""
    row = row.to(w.dtype)
    whole = row.dim() == 0 or w.dim() < 2
    return row.reshape(()) if whole else row.reshape(-1, *(1,) * (w.dim() - 1))


def _narrow_constant(ops: Ops, batch: Batch) -> None:
    """Close the intervals on the constant c, from the first gradient that is not zero."""
    group, columns = batch.group, batch.state["bounds"]
    before = torch.cat([b.reshape(4, -1) for b in columns], 1)
    seen = before[0] > 0
    if ops.name == "traced" or not bool(seen.all()):
        some = torch.cat(
            [_nonzero(g, b) for g, b in zip(batch.grads, columns, strict=True)]
        )  # fmt: skip
        seen = seen | some
    c_hat = torch.full_like(before[0], group["c"])
    _write(columns, bounds.narrow(before, group, c_hat, seen))


def _nonzero(g: Tensor, b: Tensor) -> Tensor:
    if b.dim() == 1 or g.dim() < 2:
        return (g != 0).any().reshape(1)
    return (g != 0).flatten(1).any(1)


def _write(columns: list[Tensor], rows: Tensor) -> None:
    sizes = [b[0].numel() for b in columns]
    for b, part in zip(columns, rows.split(sizes, 1), strict=True):
        b.copy_(part.reshape(b.shape))


def _check_reduce(reduce: Any) -> None:
    words = ("mean", "ema", "freeze")
    if isinstance(reduce, str):
        checks.choice("reduce", reduce, words)
        return
    if not isinstance(reduce, (tuple, list)) or len(reduce) != 2:
        raise ValueError(
            f"Invalid reduce value: {reduce!r} (must be 'mean', ('ema', decay) or ('freeze', K))"
        )
    checks.choice("reduce", reduce[0], words[1:])
    if reduce[0] == "ema":
        checks.number("Invalid decay of reduce", reduce[1], 0, 1, open_high=True)
    else:
        checks.number("Invalid K of reduce", reduce[1], 1)


def _warn_if_stuck(batch: Batch) -> None:
    """Warn when most of a tensor lies far above c_u while the interval should still be wide.

    Sitting at c_u alone is no fault: on small_cnn two thirds do by step 512. Beyond 100 c_u a step
    is ten times AMSGrad's. Looked at in steps 16, 32, 64, ... of a group's first tensor only,
    and while gamma t < 1.
    """
    group, t = batch.group, int(batch.state["step"][0])
    if t < 16 or t & (t - 1) or bounds.gamma_of(group) * t >= 1:
        return
    scale = 100.0 if group["space"] == "v" else 10.0
    for vhat, b in zip(batch.state["vhat"], batch.state["bounds"], strict=True):
        if vhat.numel() < 16:
            continue
        value = vhat if group["space"] == "v" else vhat.sqrt()
        share = (value > scale * _spread(b[3], vhat)).double().mean().item()
        if share > 0.5:
            warnings.warn(
                f"BAMSProd: {share:.0%} of a tensor of shape {list(vhat.shape)} lies over 100 "
                f"times above the bound c_u in step {t}: its first gradients were tiny and locked "
                "the bound low; begin with larger gradients, or raise kappa",
                stacklevel=6,
            )
