r"""BAMSProd: AMSGrad whose second moment is projected into bounds tied to the quantization error.

Liu et al., "BAMSProd: A Step towards Generalizing the Adaptive Optimization Methods to Deep
Binary Model", CVPRW 2020, arXiv:2009.13799, Algorithm 1. The printed limit c* of the bounds has
the wrong unit; ``cstar="relative"``, the default, is a coherent one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor

from coarsegrad.errors import nearest

CStar = Literal["relative", "literal", "constant"]


@final
class BAMSProd(torch.optim.Optimizer):
    r"""AMSGrad with nested bounds on the second moment, and latent weights kept in a box.

    For each latent tensor W, with h = sqrt(vhat) and alpha_k = mean|W_k| per output channel k::

        m     = beta1 m + (1 - beta1) g
        v     = beta2 v + (1 - beta2) g^2;   vhat = max(vhat, v)
        vt    = clip(vhat, c_l, c_u)                                  (the projection)
        eta'  = eta sqrt(1 - beta2^t) / (1 - beta1^t)
        W     = clamp(W - eta' m / max(sqrt(vt), eps), box)
        rho^2 = clip(sum h (|W| - alpha)^2 / sum h W^2, rho_min^2, 1)
        c     = running mean over steps of kappa^2 rho^2 mean(vhat)   (cstar="relative")
        x     = gamma t
        c_u   = min(c_u, max(c (1+x)/x, c_l));   c_l = max(c_l, min(c x/(1+x), c_u))

    The statistics of step t bound step t+1; the first step is unbounded. The intervals
    [c_l, c_u] are nested whatever the gradients are, so vt has a limit: the method moves from
    AMSGrad to momentum SGD with rate eta / sqrt(c). Scaling the loss leaves the path unchanged.
    Real parameters (groups with ``binary=False``) follow AMSGrad, unbounded and unboxed.

    Not as printed, and why: the printed c* (``cstar="literal"``) has the wrong unit and lies
    orders of magnitude above vhat, which turns the method into slow SGD; eta/sqrt(t) is needed by
    the proof only; bias correction is the choice that mattered most in training.

    Args:
        params: parameters or groups; ``optim.param_groups(model)`` makes them. Parameters
            without ``binary`` in their group count as latent binary weights.
        lr: eta, in units of the weight.
        betas: (beta1, beta2), each in [0, 1).
        eps: floor of sqrt(vt).
        gamma: speed at which the bounds close, in 1/step; None is 1 - beta2.
        kappa: scale of sqrt(c) for ``relative``.
        rho_min: floor of the relative quantization error rho, in (0, 1].
        cstar: ``relative``; ``literal``, L_inf D_inf sqrt(sum h (|W|-alpha)^2) as printed, as a
            running mean; ``constant``, the number ``c``.
        c: the limit for ``constant``, in units of g^2.
        L_inf: the Lipschitz constant of ``literal``.
        D_inf: the diameter of the box of ``literal``.
        alpha: the binary scale; None is mean|W| per slice of dimension 0 (of the whole tensor
            for one-dimensional parameters).
        bias_correction: whether eta' corrects the moments' start at zero; never applied to vhat.
        box: (low, high) of latent weights, or None.

    Raises:
        ValueError: a value out of range, with the range.
        RuntimeError: a sparse or complex gradient.

    >>> w = torch.nn.Parameter(torch.tensor([0.5, -0.5]))
    >>> opt = BAMSProd([w], lr=0.1)
    >>> (w**2).sum().backward(); opt.step(); w.data
    tensor([ 0.4000, -0.4000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        gamma: float | None = None,
        kappa: float = 1.0,
        rho_min: float = 0.1,
        cstar: CStar = "relative",
        c: float = 1.0,
        L_inf: float = 1.0,
        D_inf: float = 2.0,
        alpha: float | None = None,
        bias_correction: bool = True,
        box: tuple[float, float] | None = (-1.0, 1.0),
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "gamma": gamma, "kappa": kappa,
            "rho_min": rho_min, "cstar": cstar, "c": c, "L_inf": L_inf, "D_inf": D_inf,
            "alpha": alpha, "bias_correction": bias_correction, "box": box, "binary": True,
        }  # fmt: skip
        _validate(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checking its options as ``__init__`` checks the defaults."""
        _validate({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; its tensors keep their dtype, so that resuming is bit-exact.

        torch casts every state tensor but ``step`` to its parameter's dtype.
        """
        super().load_state_dict(state_dict)
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for i, parameter in zip(ids, parameters, strict=True):
            for key, value in state_dict["state"].get(i, {}).items():
                if isinstance(value, Tensor) and key != "step":
                    self.state[parameter][key] = value.to(parameter.device, copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; return the closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if grad.is_sparse or grad.is_complex():
            kind = "sparse" if grad.is_sparse else "complex"
            raise RuntimeError(f"BAMSProd does not support {kind} gradients")
        state = self.state[parameter]
        if not state:
            state.update(_initial_state(parameter, bounded=group["binary"]))
        state["step"] += 1
        m, v, vhat = state["m"], state["v"], state["vhat"]
        beta1, beta2 = group["betas"]
        grad = grad.to(m.dtype)
        m.lerp_(grad, 1 - beta1)
        v.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        torch.maximum(vhat, v, out=vhat)

        eta = group["lr"]
        if group["bias_correction"]:
            t = state["step"].item()
            eta = eta * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        bounded = group["binary"]
        if bounded and group["cstar"] == "constant":
            narrow(state, group, _constant(vhat, group))
        vtilde = vhat.clamp(state["c_l"], state["c_u"]) if bounded else vhat
        w = parameter.to(m.dtype)
        w.addcdiv_(m, vtilde.sqrt().clamp_(min=group["eps"]), value=-eta)
        if bounded and group["box"] is not None:
            w.clamp_(*group["box"])
        if w is not parameter:
            parameter.copy_(w)
        if bounded and group["cstar"] != "constant":
            narrow(state, group, quantization_limit(w, vhat, group))
        if bounded and group["cstar"] == "relative":
            _warn_if_stuck(state, vhat, group)


def _warn_if_stuck(state: dict[str, Tensor], vhat: Tensor, group: dict[str, Any]) -> None:
    """Warn when most of a tensor lies far above c_u while the interval should still be wide.

    Sitting at c_u alone is no fault: on small_cnn two thirds do by step 512. Beyond 100 c_u a step
    is ten times AMSGrad's. Looked at in steps 16, 32, 64, ... only, and while gamma t < 1.
    """
    t = int(state["step"].item())
    if t < 16 or t & (t - 1) or _gamma(group) * t >= 1 or vhat.numel() < 16:
        return
    share = (vhat > 100 * state["c_u"]).double().mean().item()
    if share > 0.5:
        warnings.warn(
            f"BAMSProd: {share:.0%} of a tensor of shape {list(vhat.shape)} lies over 100 times "
            f"above the bound c_u in step {t}: its first gradients were tiny and locked the bound "
            "low; begin with larger gradients, or raise kappa",
            stacklevel=4,
        )


def _initial_state(parameter: Tensor, *, bounded: bool) -> dict[str, Tensor]:
    narrow_float = parameter.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if narrow_float else parameter.dtype
    state = {"step": torch.tensor(0.0)}
    for name in ("m", "v", "vhat"):
        state[name] = torch.zeros_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
    if bounded:
        for name, value in (("c", 0.0), ("c_l", 0.0), ("c_u", math.inf), ("n", 0.0)):
            state[name] = torch.tensor(value, dtype=torch.float64, device=parameter.device)
    return state


def _gamma(group: dict[str, Any]) -> float:
    gamma: float = 1 - group["betas"][1] if group["gamma"] is None else group["gamma"]
    return gamma


def _constant(vhat: Tensor, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    total = vhat.sum(dtype=torch.float64)
    return torch.full_like(total, group["c"]), total


def quantization_limit(w: Tensor, vhat: Tensor, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return this step's estimate of c* and sum(vhat), both 0-d float64.

    Sums are taken per output channel k, so that alpha_k = mean|W_k| is found in the same pass:
    sum h (|W|-alpha)^2 = sum h W^2 - 2 sum_k alpha_k S_h|w|,k + sum_k alpha_k^2 S_h,k.
    """
    channels = w.flatten(1) if w.dim() > 1 else w.reshape(1, -1)
    magnitude = channels.abs()
    h = vhat.reshape(channels.shape).sqrt()
    hw = h * magnitude
    s_v = vhat.sum(dtype=torch.float64)
    s_h = h.sum(1, dtype=torch.float64)
    s_hw = hw.sum(1, dtype=torch.float64)
    s_hw2 = (hw * magnitude).sum(dtype=torch.float64)
    if group["alpha"] is None:
        alpha = magnitude.mean(1, dtype=torch.float64)
    else:
        alpha = torch.full_like(s_h, group["alpha"])
    # Rounding can take a vanishing error a little below 0.
    error = (s_hw2 - 2 * (alpha * s_hw).sum() + (alpha.square() * s_h).sum()).clamp(min=0)
    if group["cstar"] == "literal":
        return group["L_inf"] * group["D_inf"] * error.sqrt(), s_v
    # 0/0 where every weight is 0: no magnitude to compare with, taken as the worst error.
    rho2 = (error / s_hw2).nan_to_num(1.0).clamp(group["rho_min"] ** 2, 1)
    return group["kappa"] ** 2 * rho2 * s_v / max(w.numel(), 1), s_v


def narrow(
    state: dict[str, Tensor], group: dict[str, Any], estimate: tuple[Tensor, Tensor]
) -> None:
    """Fold one estimate of c* into the running mean and nest the interval [c_l, c_u] in place.

    While no gradient has been seen (sum(vhat) = 0) nothing changes: c_u = 0 would lock there. Nor
    does it after an overflow: one NaN in c would make every weight of the tensor NaN.
    """
    c_hat, s_v = estimate
    seen = (s_v > 0) & torch.isfinite(s_v) & torch.isfinite(c_hat)
    n = state["n"] + 1
    c = state["c"] + (c_hat - state["c"]) / n
    gamma = _gamma(group)
    # A constant c* is known before the step it bounds; an estimated one bounds the next step.
    x = gamma * (n if group["cstar"] == "constant" else n + 1)
    c_u = torch.minimum(state["c_u"], torch.maximum(c * (1 + 1 / x), state["c_l"]))
    c_l = torch.maximum(state["c_l"], torch.minimum(c / (1 + 1 / x), c_u))
    for name, value in (("n", n), ("c", c), ("c_u", c_u), ("c_l", c_l)):
        state[name].copy_(torch.where(seen, value, state[name]))


def _validate(group: dict[str, Any]) -> None:
    """Raise ValueError for the first option out of range, in torch's wording."""

    def number(value: Any, low: float, high: float, *, open_low: bool = False) -> bool:
        above = value > low if open_low else value >= low
        return above and value <= high and math.isfinite(value)

    inf, (beta1, beta2), box = math.inf, group["betas"], group["box"]
    checks = (
        (number(group["lr"], 0, inf), f"Invalid learning rate: {group['lr']}", ">= 0"),
        (number(group["eps"], 0, inf, open_low=True), f"Invalid epsilon value: {group['eps']}",
         "> 0: it bounds the step where no gradient was seen"),
        (0 <= beta1 < 1, f"Invalid beta parameter at index 0: {beta1}", "in [0, 1)"),
        (0 <= beta2 < 1, f"Invalid beta parameter at index 1: {beta2}", "in [0, 1)"),
        (group["gamma"] is None or number(group["gamma"], 0, inf, open_low=True),
         f"Invalid gamma value: {group['gamma']}", "> 0, or None for 1 - beta2"),
        (number(group["kappa"], 0, inf, open_low=True),
         f"Invalid kappa value: {group['kappa']}", "> 0"),
        (number(group["rho_min"], 0, 1, open_low=True),
         f"Invalid rho_min value: {group['rho_min']}", "in (0, 1]"),
        (group["cstar"] in get_args(CStar), f"Invalid cstar value: {group['cstar']!r}",
         f"one of {', '.join(get_args(CStar))}.{nearest(str(group['cstar']), get_args(CStar))}"),
        *((number(group[key], 0, inf, open_low=True), f"Invalid {key} value: {group[key]}", "> 0")
          for key in ("c", "L_inf", "D_inf")),
        (group["alpha"] is None or number(group["alpha"], 0, inf, open_low=True),
         f"Invalid alpha value: {group['alpha']}", "> 0, or None for mean|W| per channel"),
        (box is None or (len(box) == 2 and box[0] < box[1]), f"Invalid box value: {box}",
         "(low, high) with low < high, or None"),
    )  # fmt: skip
    for valid, got, allowed in checks:
        if not valid:
            raise ValueError(f"{got} (must be {allowed})")
