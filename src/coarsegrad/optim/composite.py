"""Optimizers made of optimizers: one ``step``, one ``state_dict``, live groups for schedulers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch._compile import _disable_dynamo
from torch.optim import Optimizer

from coarsegrad.optim.rule import keep_dtypes


class Composite(Optimizer):
    """Abstract: looks like one optimizer to torch, and steps the ``rules`` that it holds.

    Groups and state stay with the rules; ``param_groups`` and ``state`` show them in one list and
    one mapping, so that nothing can fall out of step: schedulers, GradScaler, Lightning and
    distributed checkpoints see what they know.
    """

    rules: list[Optimizer]

    def __init__(self, rules: list[Optimizer]) -> None:
        # Optimizer.__init__ would make groups of its own; __setstate__ makes the hooks only.
        self.__setstate__({"rules": rules, "defaults": {}})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all rules, each the rule's own dict."""
        return [group for rule in self.rules for group in rule.param_groups]

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The state of all rules; each entry is the rule's own dict."""
        return defaultdict(
            dict, {p: kept for rule in self.rules for p, kept in rule.state.items()}
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {"rules": self.rules, "defaults": self.defaults}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "rules" in state:
            super().__setstate__(state)
            return
        # From load_state_dict: groups in the order of ``param_groups``, state by parameter.
        groups = iter(state["param_groups"])
        for rule in self.rules:
            part = [next(groups) for _ in rule.param_groups]
            own = {p for group in part for p in group["params"]}
            kept = defaultdict(dict, {p: s for p, s in state["state"].items() if p in own})
            rule.__setstate__({"state": kept, "param_groups": part})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of all rules; tensors keep their dtype."""
        super().load_state_dict(state_dict)
        keep_dtypes(self, state_dict)

    @torch.no_grad()
    @partial(_disable_dynamo, recursive=False)
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every rule; the closure runs once, before.

        Not traced by torch.compile, which would write back stale state dicts; each rule's step is.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_rules()
        return loss

    @partial(_disable_dynamo, recursive=False)
    def _step_rules(self) -> None:
        for rule in self.rules:
            rule.step()

    def diagnostics(self) -> dict[str, dict[str, float]]:
        """Return the diagnostics of the rules that keep them; ``total`` is of the first.

        Raises:
            RuntimeError: none does, or no step was done.
        """
        found: dict[str, dict[str, float]] = {}
        for rule in self.rules:
            if hasattr(rule, "diagnostics") and any(
                group.get("diagnostics") for group in rule.param_groups
            ):
                found = {**rule.diagnostics(), **found}
        if not found:
            raise RuntimeError(
                "diagnostics() needs a rule with diagnostics=True; give it among the rule's options"
            )
        return found
