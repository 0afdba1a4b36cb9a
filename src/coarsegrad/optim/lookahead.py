"""Lookahead: slow weights that follow any optimizer's fast ones, k steps at a time."""

from __future__ import annotations

from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from coarsegrad.optim import checks
from coarsegrad.optim.composite import Composite
from coarsegrad.optim.rule import working_dtype


@final
class Lookahead(Composite):
    r"""Every k steps, move slow weights towards the fast ones and go on from there.

    Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", NeurIPS 2019,
    arXiv:1907.08610, Algorithm 1::

        after every k steps of the inner rule:   phi += alpha (theta - phi);   theta = phi

    phi starts as the weights before the first step. A box is convex, so phi stays in it. Where the
    inner rule flips (Bop), theta = sign(phi) and a tie keeps the weight: a vote over the last
    rounds. Slow weights are state of the parameter (``"slow"``); k, alpha and the count are in the
    groups (``lookahead_k``, ...), so that one checkpoint holds everything.

    Args:
        inner: any optimizer, ``Split`` included.
        k: inner steps between two slow ones.
        alpha: share of the way, in (0, 1].

    Raises:
        ValueError: a value out of range.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> opt = Lookahead(torch.optim.SGD([w], lr=1.0), k=2, alpha=0.5)
    >>> for _ in range(2):
    ...     w.grad = torch.ones(1); _ = opt.step()
    >>> w.data
    tensor([-1.])
    """

    def __init__(self, inner: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"Invalid k value: {k} (must be an integer >= 1)")
        checks.number("Invalid alpha value", alpha, 0, 1, open_low=True)
        super().__init__([inner])
        self.defaults = {**inner.defaults, "lookahead_k": k, "lookahead_alpha": alpha}
        for group in inner.param_groups:
            self._mark(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "lookahead_k" in self.defaults:
            for group in self.param_groups:
                self._mark(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the inner optimizer; its slow weights start as they are."""
        self._mark(param_group)
        self.rules[0].add_param_group(param_group)

    def _mark(self, group: dict[str, Any]) -> None:
        group.setdefault("lookahead_k", self.defaults["lookahead_k"])
        group.setdefault("lookahead_alpha", self.defaults["lookahead_alpha"])
        group.setdefault("lookahead_count", 0)

    @partial(_disable_dynamo, recursive=False)
    def _step_rules(self) -> None:
        inner = self.rules[0]
        groups = inner.param_groups
        rules = rules_by_parameter(inner)
        new = {
            p: p.detach().to(working_dtype(p), copy=True)
            for p, rule in rules.items()
            if p.grad is not None and "slow" not in rule.state.get(p, {})
        }
        inner.step()
        # torch's own rules make their state where they find none, so the slow weight comes after.
        for p, slow in new.items():
            rules[p].state[p]["slow"] = slow
        for group in groups:
            group["lookahead_count"] += 1
            if group["lookahead_count"] % group["lookahead_k"] == 0:
                for p in group["params"]:
                    slow = rules[p].state.get(p, {}).get("slow")
                    if slow is not None:
                        flips = getattr(rules[p], "flips", False)
                        _meet(p, slow, group["lookahead_alpha"], flips)


@_disable_dynamo
def rules_by_parameter(optimizer: Optimizer) -> dict[Tensor, Optimizer]:
    """Return the innermost rule of each parameter, whose state is the parameter's."""
    if isinstance(optimizer, Composite):
        return {p: r for rule in optimizer.rules for p, r in rules_by_parameter(rule).items()}
    return {p: optimizer for group in optimizer.param_groups for p in group["params"]}


@_disable_dynamo
def _meet(p: Tensor, slow: Tensor, alpha: float, flips: bool) -> None:
    slow.lerp_(p.to(slow.dtype), alpha)
    if flips:
        p.copy_(torch.where(slow == 0, p, slow.sign().to(p.dtype)))
    else:
        p.copy_(slow)
