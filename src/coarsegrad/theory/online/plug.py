"""Any torch optimizer in the place of a twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from coarsegrad.theory.online.game import Mark, _places, _played
from coarsegrad.theory.online.problems import Problem
from coarsegrad.theory.online.setting import Step

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

Make = Callable[["Parameter"], "Optimizer"]


def plugged(make: Make, *, invsqrt: bool = True, box: tuple[float, float] | None = None) -> Step:
    """Return a step that lets a torch optimizer move a float64 parameter; vtilde and v are NaN.

    Args:
        make: given the parameter, returns its optimizer.
        invsqrt: write lr / sqrt(t) into its groups before step t.
        box: where w is clamped to after a step; optimizers with a box of their own need none.

    >>> import torch
    >>> step = plugged(lambda w: torch.optim.SGD([w], lr=0.5))
    >>> step(1.0, 1.0, 1)[0], step(0.5, 1.0, 4)[0]
    (0.5, 0.25)
    """
    import torch

    held: list[Any] = []

    def step(w: Any, g: Any, t: int) -> tuple[Any, Any, Any]:
        if not held:
            parameter = torch.nn.Parameter(torch.tensor(w, dtype=torch.float64))
            optimizer = make(parameter)
            held.extend((parameter, optimizer, [group["lr"] for group in optimizer.param_groups]))
        parameter, optimizer, rates = held
        if invsqrt:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate / t**0.5
        parameter.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        if box is not None:
            parameter.data.clamp_(*box)
        found = parameter.detach().numpy()
        return (found.copy() if found.ndim else float(found)), np.nan, np.nan

    return step


def play_torch(
    make: Make, problem: Problem, steps: int, *, start: Any = 1.0, invsqrt: bool = True,
    box: tuple[float, float] | None = (-1.0, 1.0), at: Sequence[int] = (),
) -> tuple[Mark, ...]:  # fmt: skip
    """Play with a torch optimizer, at 10 to 100 times the cost of a twin; see ``play``.

    Raises:
        ValueError: there are no steps, or a mark is not among them.
        DivergenceError: a weight or the regret is no longer finite.

    >>> import torch
    >>> from coarsegrad.theory.online.problems import reddi1
    >>> play_torch(lambda w: torch.optim.SGD([w], lr=0.1), reddi1(), 100)[-1].t
    100
    """
    step = plugged(make, invsqrt=invsqrt, box=box)
    return _played(step, problem, start, _places(steps, at), None)
