"""Every rule with a real-valued path finds the minimiser of small functions, to 3e-2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from coarsegrad.optim import AdaBound, AMSBound, BAMSProd, ClippedSGD, Lookahead, NormalizedSGD

Function = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def beale(x: Tensor) -> Tensor:
    y = x[1]
    return (
        (1.5 - x[0] + x[0] * y) ** 2
        + (2.25 - x[0] + x[0] * y**2) ** 2
        + (2.625 - x[0] + x[0] * y**3) ** 2
    )


def parabola(x: Tensor) -> Tensor:
    return ((x - torch.tensor([-1.0, 3.0])) ** 2 * torch.tensor([1.0, 10.0])).sum()


# function, start, minimiser
PLACES: dict[str, tuple[Function, list[float], list[float]]] = {
    "rosenbrock": (rosenbrock, [-1.2, 1.0], [1.0, 1.0]),
    "beale": (beale, [1.0, 1.0], [3.0, 0.5]),
    "parabola": (parabola, [1.0, 1.0], [-1.0, 3.0]),
}

RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "BAMSProd": (BAMSProd, {"lr": 0.3, "kappa": 3.0, "box": None}),
    "BAMSProd, real": (BAMSProd, {"lr": 0.3, "real": True}),
    "AdaBound": (AdaBound, {"lr": 0.3, "final_lr": 0.01}),
    "AMSBound": (AMSBound, {"lr": 0.3, "final_lr": 0.01}),
    "ClippedSGD": (ClippedSGD, {"lr": 3e-3, "max_norm": 10.0, "momentum": 0.9}),
    "NormalizedSGD": (NormalizedSGD, {"lr": 0.03, "beta": 10.0, "momentum": 0.9}),
}


def build(name: str, x: torch.nn.Parameter) -> torch.optim.Optimizer:
    rule, options = RULES[name]
    options = dict(options)
    group: dict[str, Any] = {"params": [x]}
    if options.pop("real", False):
        group["binary"] = False
    opt: torch.optim.Optimizer = rule([group], **options)
    return opt


def descend(opt: torch.optim.Optimizer, x: torch.nn.Parameter, f: Function, steps: int) -> None:
    for _ in range(steps):
        opt.zero_grad()
        f(x).backward()
        opt.step()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", RULES)
def test_finds_the_minimiser(name: str, place: str) -> None:
    f, start, end = PLACES[place]
    x = torch.nn.Parameter(torch.tensor(start))
    opt = build(name, x)
    for _ in range(40):
        descend(opt, x, f, 50)
        if float((x.detach() - torch.tensor(end)).abs().max()) < 1e-2:
            break
    torch.testing.assert_close(x.detach(), torch.tensor(end), rtol=0, atol=3e-2)


def test_lookahead_finds_it_too() -> None:
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    opt = Lookahead(build("BAMSProd", x), k=5)
    descend(opt, x, parabola, 300)
    torch.testing.assert_close(x.detach(), torch.tensor([-1.0, 3.0]), rtol=0, atol=3e-2)


def test_a_box_finds_the_nearest_point_inside() -> None:
    """The minimum of the parabola over the box, not the unconstrained one cut off afterwards."""
    x = torch.nn.Parameter(torch.zeros(2))
    opt = BAMSProd([x], lr=0.1)

    def tilted(x: Tensor) -> Tensor:
        return parabola(x) + 4 * (x[0] + 1) * (x[1] - 3)

    descend(opt, x, tilted, 300)
    # x1 = 1 binds; then d/dx0: 2 (x0 + 1) + 4 (1 - 3) = 0 has its root beyond the other face.
    torch.testing.assert_close(x.detach(), torch.tensor([1.0, 1.0]), rtol=0, atol=3e-2)
