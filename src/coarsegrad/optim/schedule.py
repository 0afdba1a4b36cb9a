"""Schedules of hyper-parameters other than the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from torch.optim import Optimizer


@final
class GroupSchedule:
    """Multiply numbers in the groups by functions of the step, as LambdaLR does with ``lr``.

    In step s, group[key] = (its value at the start) * function(s). Groups without a key are left
    alone. The starting values stay in the groups as ``initial_<key>``; ``state_dict`` holds the
    step.

    Args:
        optimizer: any, also a ``Split``.
        functions: key -> function of the step 0, 1, 2, ...

    Raises:
        ValueError: no group has a key.

    >>> import torch
    >>> from coarsegrad.optim import Bop
    >>> opt = Bop([torch.nn.Parameter(torch.ones(3))], threshold=1e-6)
    >>> schedule = GroupSchedule(opt, {"threshold": lambda s: 0.5**s})
    >>> schedule.step(); opt.param_groups[0]["threshold"]
    5e-07
    """

    def __init__(
        self, optimizer: Optimizer, functions: Mapping[str, Callable[[int], float]]
    ) -> None:
        for key in functions:
            if not any(key in group for group in optimizer.param_groups):
                known = sorted({k for group in optimizer.param_groups for k in group} - {"params"})
                raise ValueError(
                    f"GroupSchedule needs keys that a group has, got {key!r}; the groups of "
                    f"{type(optimizer).__name__} have {', '.join(known)}"
                )
        self.optimizer = optimizer
        self.functions = dict(functions)
        self.last_step = -1
        self.step()

    def step(self) -> None:
        """Go on to the next step."""
        self.last_step += 1
        for group in self.optimizer.param_groups:
            for key, function in self.functions.items():
                if key in group:
                    start = group.setdefault(f"initial_{key}", group[key])
                    group[key] = start * function(self.last_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the step."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a step; load the optimizer's state as well, which holds the values."""
        self.last_step = state_dict["last_step"]
