"""Relaxed variable splitting: any optimizer trains w, a sparse twin u = prox(w) pulls at it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from coarsegrad import prox
from coarsegrad.errors import ArgumentError
from coarsegrad.optim import checks
from coarsegrad.optim.composite import Composite
from coarsegrad.optim.lookahead import rules_by_parameter
from coarsegrad.optim.rule import working_dtype

PENALTIES = ("l0", "l1", "transformed_l1")
SUPPORTS = ("free", "irreversible")

Prox = Callable[[Tensor, float], Tensor]
"""x and r to the minimiser of (1/2)(u - x)^2 + r P(u), such as the functions of ``prox``."""


Pulled = tuple[dict[str, Any], Tensor, Tensor]
"""A group, a parameter of it, and its u."""


@final
class RVS(Composite):
    r"""Train with a sparse twin u of the weights w: the loss + lam P(u) + beta/2 \|w - u\|^2.

    Dinh and Xin 2020 (Front. Appl. Math. Stat. 6:13), Algorithm 1, around any optimizer. A step::

        u = prox(w),  with weight lam / beta        one threshold for all tensors
        w = w - lr beta (w - u)                     decoupled: no momentum, no second moments
        the inner rule's step
        w = w / |w|                                 with normalize, tensor by tensor
        u = prox(w + z / beta),  z = z + beta (w - u),  the pull is lr (z + beta (w - u))   admm

    The network to ship is that of u, and only ``at_u`` shows it: the accuracy at w says nothing
    about it. w itself stays dense, unless ``support="irreversible"``. There, after every ``every``
    steps, w becomes u, and what is 0 stays 0. The numbers are in the groups (``rvs_lam``,
    ``rvs_beta``, ...), where schedules and checkpoints find them; u is computed from w, and is no
    state. A group may bring its own, ``{"params": ..., "rvs_pruned": False}`` for one.

    Args:
        inner: any optimizer, ``Split`` and ``Lookahead`` included.
        lam: lambda, the weight of the penalty, >= 0.
        beta: the weight of the coupling, > 0. l0 zeroes what is not above sqrt(2 lam / beta), l1
            what is not above lam / beta.
        penalty: ``l0``, ``l1``, ``transformed_l1``, or a function (x, r) -> minimiser; to pickle
            the optimizer it must be importable.
        a: the shape of ``transformed_l1``, > 0; 1 by default, and for nothing else.
        warmup: lambda grows linearly over so many steps.
        support: ``free``, or ``irreversible``.
        every: steps between two thresholdings of w, an epoch's, say; for ``irreversible`` only,
            which needs it.
        normalize: every pruned tensor has norm 1 after every step; the theory's, not for networks.
        admm: the multipliers z of section 3.3 as well, which make w and u meet.
        pruned: None takes parameters of two dimensions or more; a pattern, those whose names it
            matches (``re.search``; give the inner optimizer named parameters); True, all.

    Raises:
        ArgumentError: a value out of range, options that exclude each other, a parameter to prune
            that its rule flips (Bop), or nothing to prune.

    >>> w = torch.nn.Parameter(torch.tensor([[1.0, 0.1]]))
    >>> opt = RVS(torch.optim.SGD([w], lr=0.5), lam=0.125, beta=1.0)
    >>> w.grad = torch.zeros(1, 2); opt.step()
    >>> w.data, opt.sparsity()["total"]
    (tensor([[1.0000, 0.0500]]), 0.5)
    >>> with opt.at_u():
    ...     w.data
    tensor([[1., 0.]])
    """

    def __init__(
        self, inner: Optimizer, *, lam: float, beta: float, penalty: str | Prox = "l0",
        a: float | None = None, warmup: int = 0, support: str = "free", every: int | None = None,
        normalize: bool = False, admm: bool = False, pruned: bool | str | None = None,
    ) -> None:  # fmt: skip
        word = "a function" if callable(penalty) else penalty
        options = {
            "rvs_lam": lam, "rvs_beta": beta, "rvs_penalty": word,
            "rvs_a": 1.0 if a is None and word == "transformed_l1" else a,
            "rvs_warmup": warmup, "rvs_support": support, "rvs_every": every,
            "rvs_normalize": normalize, "rvs_admm": admm, "rvs_pruned": pruned, "rvs_count": 0,
        }  # fmt: skip
        _check(options, callable(penalty))
        super().__init__([inner])
        self.defaults = {**inner.defaults, **options, "rvs_function": None}
        if callable(penalty):
            self.defaults["rvs_function"] = penalty
        rules = rules_by_parameter(inner)
        found = 0
        for group in inner.param_groups:
            found += len(_pruned({**options, **group}, rules))
        if not found:
            raise ArgumentError(
                f"RVS needs a parameter to prune, and pruned={pruned!r} takes none of "
                f"{sum(len(group['params']) for group in inner.param_groups)}; None takes those of "
                "two dimensions or more, True all, a pattern those whose names it matches"
            )
        for group in inner.param_groups:
            self._mark(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "rvs_lam" in self.defaults:
            for group in self.param_groups:
                self._mark(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer; it may have nothing to prune.

        Raises:
            ArgumentError: an option of this wrapper is out of range.
        """
        known = {key: x for key, x in self.defaults.items() if key.startswith("rvs_")}
        _check({**known, "rvs_count": 0, **param_group}, known["rvs_function"] is not None)
        self._mark(param_group)
        self.rules[0].add_param_group(param_group)

    def _mark(self, group: dict[str, Any]) -> None:
        for key, value in self.defaults.items():
            if key.startswith("rvs_") and key != "rvs_function":
                group.setdefault(key, value)

    @partial(_disable_dynamo, recursive=False)
    def _step_rules(self) -> None:
        if self.__dict__.get("_at_u"):
            raise RuntimeError(
                "RVS.step() inside at_u() would train u and be lost at its end; leave the block"
            )
        pulled = self._pull()
        self.rules[0].step()
        # torch's own rules make their state where they find none, so ours comes after.
        self._settle(pulled)

    @_disable_dynamo
    def _pull(self) -> list[Pulled]:
        """Move each w towards its twin, and return the twins."""
        rules = rules_by_parameter(self.rules[0])
        pulled: list[Pulled] = []
        for group in self.param_groups:
            group["rvs_count"] += 1
            for p in _pruned(group, rules):
                if p.grad is None:
                    continue
                w, state = p.to(working_dtype(p)), rules[p].state.get(p, {})
                u = self._twin(group, w, state)
                gap = (w - u).mul_(group["rvs_beta"])
                if "z" in state:
                    gap += state["z"]
                p.copy_(w - gap.mul_(group["lr"]))
                pulled.append((group, p, u))
        return pulled

    @_disable_dynamo
    def _settle(self, pulled: list[Pulled]) -> None:
        """Do what comes after the inner step: supports, norms, multipliers."""
        rules = rules_by_parameter(self.rules[0])
        for group, p, u in pulled:
            state, every = rules[p].state[p], group["rvs_every"]
            if group["rvs_admm"]:
                state.setdefault("z", torch.zeros_like(u))
            if every:
                p.mul_(state.setdefault("support", torch.ones_like(u)))
            if float(group["lr"]) == 0:
                continue  # a distributed checkpoint's first step, which makes state and no more
            if group["rvs_normalize"]:
                p.div_(_length(p))
            if group["rvs_admm"]:
                state["z"].add_(p.to(u.dtype) - u, alpha=group["rvs_beta"])
            if every and group["rvs_count"] % every == 0:
                kept = self._twin(group, p.to(u.dtype), state)
                p.copy_(kept)
                state["support"].copy_(kept != 0)

    def _twin(self, group: dict[str, Any], w: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Return u = prox(w), or prox(w + z / beta), inside the support."""
        warmup = group["rvs_warmup"]
        rise = min(1.0, group["rvs_count"] / warmup) if warmup else 1.0
        r = rise * group["rvs_lam"] / group["rvs_beta"]
        if "z" in state:
            w = w + state["z"] / group["rvs_beta"]
        word = group["rvs_penalty"]
        if word == "transformed_l1":
            u = prox.transformed_l1(w, r, group["rvs_a"])
        elif word in PENALTIES:
            u = prox.l0(w, r) if word == "l0" else prox.l1(w, r)
        else:
            u = self.defaults["rvs_function"](w, r)
        return u * state["support"] if "support" in state else u

    @torch.no_grad()
    def u(self, parameter: Tensor) -> Tensor:
        """Return u of a parameter, a new tensor: prox(w) where it is pruned, else w.

        Raises:
            KeyError: this optimizer does not step the parameter.
        """
        rules = rules_by_parameter(self.rules[0])
        state = rules[parameter].state.get(parameter, {})
        for group in self.param_groups:
            pruned = any(parameter is p for p in _pruned(group, rules))
            if pruned and not self.__dict__.get("_at_u"):
                w = parameter.detach().to(working_dtype(parameter))
                return self._twin(group, w, state).to(parameter.dtype)
        return parameter.detach().clone()

    @contextmanager
    def at_u(self) -> Iterator[None]:
        """Let every pruned parameter be its u in the block; w comes back bit by bit.

        For evaluation, or a copy to ship: ``with opt.at_u(): small = copy.deepcopy(net)``. Batch
        statistics were gathered at w; re-estimate them, on a copy.

        Raises:
            RuntimeError: inside another such block.
        """
        if self.__dict__.get("_at_u"):
            raise RuntimeError("RVS.at_u() is already in force; its blocks do not nest")
        rules = rules_by_parameter(self.rules[0])
        params = [p for group in self.param_groups for p in _pruned(group, rules)]
        kept = [p.detach().clone() for p in params]
        twins = [self.u(p) for p in params]
        self.__dict__["_at_u"] = True
        try:
            with torch.no_grad():
                for p, twin in zip(params, twins, strict=True):
                    p.copy_(twin)
            yield
        finally:
            del self.__dict__["_at_u"]
            with torch.no_grad():
                for p, w in zip(params, kept, strict=True):
                    p.copy_(w)

    def sparsity(self) -> dict[str, float]:
        """Return the share of zeros in u of each pruned parameter by name, and in ``"total"``."""
        rules = rules_by_parameter(self.rules[0])
        shares: dict[str, float] = {}
        zeros = elements = 0
        for number, group in enumerate(self.param_groups):
            names = group.get("param_names") or [
                f"{number}.{i}" for i in range(len(group["params"]))
            ]
            pruned = {id(p) for p in _pruned(group, rules)}
            for name, p in zip(names, group["params"], strict=True):
                if id(p) in pruned:
                    count = int((self.u(p) == 0).sum())
                    shares[name] = count / max(1, p.numel())
                    zeros, elements = zeros + count, elements + p.numel()
        return {**shares, "total": zeros / max(1, elements)}


def _pruned(group: dict[str, Any], rules: dict[Tensor, Optimizer]) -> list[Tensor]:
    """Return the parameters of a group that have a twin."""
    which, params, names = group["rvs_pruned"], group["params"], group.get("param_names")
    if isinstance(which, str):
        if names is None:
            raise ArgumentError(
                f"RVS needs named parameters for pruned={which!r}, got a group without names; "
                "build the inner optimizer from model.named_parameters()"
            )
        found = [p for name, p in zip(names, params, strict=True) if re.search(which, name)]
    elif which is None:
        found = [p for p in params if p.ndim >= 2]
    else:
        found = list(params) if which else []
    for p in found:
        if getattr(rules.get(p), "flips", False):
            raise ArgumentError(
                f"RVS needs weights that can shrink, but {type(rules[p]).__name__} keeps its own "
                "at -1 and +1; set pruned to a pattern that leaves them out"
            )
    return found


def _length(p: Tensor) -> Tensor:
    """Return the norm, or 1 where it is 0."""
    norm: Tensor = torch.linalg.vector_norm(p.to(working_dtype(p)))
    return norm.where(norm > 0, 1)


def _check(o: dict[str, Any], function: bool) -> None:
    """Raise ArgumentError for the first option out of range."""
    try:
        checks.number("Invalid lam value", o["rvs_lam"])
        checks.number("Invalid beta value", o["rvs_beta"], open_low=True)
        if not function:
            checks.choice("penalty", o["rvs_penalty"], PENALTIES)
        if o["rvs_penalty"] == "transformed_l1":
            checks.number("Invalid a value", o["rvs_a"], open_low=True)
        elif o["rvs_a"] is not None:
            raise ValueError(f"Invalid a value: {o['rvs_a']} (only transformed_l1 has one)")
        checks.choice("support", o["rvs_support"], SUPPORTS)
        for name, low in (("warmup", 0), ("every", 1)):
            value = o[f"rvs_{name}"]
            if value is not None and (not isinstance(value, int) or value < low):
                raise ValueError(f"Invalid {name} value: {value} (must be an integer >= {low})")
        if (o["rvs_support"] == "irreversible") != (o["rvs_every"] is not None):
            raise ValueError(
                f"Invalid every value: {o['rvs_every']} with support={o['rvs_support']!r} (must be "
                "given with 'irreversible', the steps between two thresholdings of w, and with "
                "nothing else)"
            )
    except ValueError as error:
        raise ArgumentError(str(error)) from None
    if not math.isfinite(o["rvs_lam"] / o["rvs_beta"]):
        raise ArgumentError(f"Invalid beta value: {o['rvs_beta']} (lam / beta must be finite)")
