"""The optimizers and their configurations, each with its twin: the rows that drive the laws.

A row is a ``Case``; a way to run it is a name in ``PATHS``. ``fused`` falls back to the eager code
where the native module has no pass, so its rows hold with and without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from coarsegrad.optim import (
    AdaBound,
    AMSBound,
    BAMSProd,
    Bop,
    Bop2ndOrder,
    ClippedSGD,
    NormalizedSGD,
)
from coarsegrad.optim.rule import Rule
from reference import adabound, bamsprod, bop, clipped

Array = NDArray[np.float64]

PATHS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False, "fused": False},
    "foreach": {"foreach": True, "fused": False},
    "traced": {"capturable": True},
    "fused": {"fused": True},
}

# A matrix that is not contiguous, a filter in channels_last, a vector, a number, nothing.
SHAPES: list[tuple[int, ...]] = [(4, 3), (3, 2, 2, 2), (5,), (), (2, 0)]


@dataclass(frozen=True, eq=False)
class Case:
    """One rule with its options."""

    rule: type[Rule]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.rule.__name__, *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def flips(self) -> bool:
        return self.rule.flips

    @property
    def paths(self) -> list[str]:
        by_norm = self.rule in (ClippedSGD, NormalizedSGD)
        return [path for path in PATHS if not (by_norm and path == "fused")]

    @property
    def box(self) -> tuple[float, float] | None:
        if self.flips:
            return (-1.0, 1.0)
        default = (-1.0, 1.0) if self.rule is BAMSProd else None
        box: tuple[float, float] | None = self.options.get("box", default)
        return box

    def weights(
        self, dtype: torch.dtype = torch.float64, shapes: Sequence[tuple[int, ...]] = SHAPES
    ) -> list[Parameter]:
        """Parameters inside every row's box, or -1 and +1 for a rule that flips."""
        generator = torch.Generator().manual_seed(1)
        made = []
        for shape in shapes:
            w = (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5) / 5
            if self.flips:
                w = torch.where(w >= 0, 1.0, -1.0)
            w = w.to(dtype)
            if len(shape) == 2:
                w = w.T.contiguous().T
            if len(shape) == 4:
                w = w.contiguous(memory_format=torch.channels_last)
            made.append(Parameter(w))
        return made

    def build(self, params: Any, path: str = "single", **more: Any) -> Rule:
        return self.rule(params, **{**self.options, **PATHS[path], **more})

    def twin(self, params: Sequence[Tensor]) -> Twin:
        """The float64 reference that starts from the parameters."""
        return Twin([p.detach().double().numpy().copy() for p in params], self)


class Twin:
    """The references of some tensors, stepped together."""

    def __init__(self, start: list[Array], case: Case) -> None:
        self.parts = TWINS[case.rule](start, dict(case.options))

    def step(self, gradients: Sequence[Tensor]) -> None:
        arrays = [g.detach().double().numpy() for g in gradients]
        if isinstance(self.parts, clipped.Reference):
            self.parts.step(arrays)
            return
        for part, g in zip(self.parts, arrays, strict=True):
            part.step(g)

    @property
    def weights(self) -> list[Array]:
        if isinstance(self.parts, clipped.Reference):
            return self.parts.x
        return [part.x if isinstance(part, adabound.Reference) else part.w for part in self.parts]


def _bamsprod(start: list[Array], options: dict[str, Any]) -> Any:
    lr = options.pop("lr", 1e-2)
    return [bamsprod.from_options(w, lr, options) for w in start]


def _bound(amsbound: bool) -> Callable[[list[Array], dict[str, Any]], Any]:
    def make(start: list[Array], options: dict[str, Any]) -> Any:
        lr, box = options.pop("lr", 1e-3), options.pop("box", None)
        beta_1, beta_2 = options.pop("betas", (0.9, 0.999))
        return [
            adabound.Reference(w, lr, beta_1, beta_2, amsbound=amsbound, F=box, **options)
            for w in start
        ]

    return make


def _bop(gamma: float, tau: float, **second: Any) -> Callable[[list[Array], dict[str, Any]], Any]:
    def make(start: list[Array], options: dict[str, Any]) -> Any:
        o = {"gamma": gamma, "threshold": tau, "lr": 1.0, **second, **options}
        rate, threshold = o.pop("lr") * o.pop("gamma"), o.pop("threshold")
        return [bop.Reference(w, rate, threshold, **o) for w in start]

    return make


def _clipped(rule: int, bound: str) -> Callable[[list[Array], dict[str, Any]], Any]:
    def make(start: list[Array], options: dict[str, Any]) -> Any:
        return clipped.Reference(
            start, options.pop("lr", 1e-2), options.pop(bound, 1.0), rule, **options
        )

    return make


TWINS: dict[type[Rule], Callable[[list[Array], dict[str, Any]], Any]] = {
    BAMSProd: _bamsprod,
    AdaBound: _bound(amsbound=False),
    AMSBound: _bound(amsbound=True),
    Bop: _bop(1e-4, 1e-8),
    Bop2ndOrder: _bop(1e-6, 1e-6, sigma=1e-2),
    ClippedSGD: _clipped(7, "max_norm"),
    NormalizedSGD: _clipped(8, "beta"),
}

CASES = [
    *(
        Case(BAMSProd, options)
        for options in [
            {},
            {"lr": 0.5},
            {"bias_correction": False, "weight_decay": 0.1},
            {"kappa": 4.0, "gamma": 0.05},
            {"rho_min": 0.9, "eps": 1e-2},
            {"alpha": 0.5, "reduce": ("ema", 0.8)},
            {"box": None, "vhat": "average"},
            {"box": (-0.1, 0.3), "lr": 0.1, "betas": (0.0, 0.9)},
            {"cstar": "grad", "reduce": ("freeze", 4), "gamma": 0.1},
            {"cstar": "literal", "L_inf": 1e-3, "D_inf": 3.0},
            {"cstar": "constant", "c": 1e-2, "gamma": 0.1},
            {"cstar": "constant", "space": "sqrt", "per": "channel", "gamma": 0.1},
            {"per": "channel", "gamma": 0.2},
            {"per": "channel", "cstar": "literal", "space": "sqrt", "alpha": 0.5},
            {"space": "sqrt", "kappa": 2.0},
            {"lr_decay": "invsqrt", "beta1_decay": "power", "beta1_lambda": 0.9},
            {"lr_decay": "invsqrt", "beta1_decay": "inverse", "weight_decay": 0.2},
        ]
    ),
    *(
        Case(rule, options)
        for rule in (AdaBound, AMSBound)
        for options in [
            {},
            {"lr": 0.3, "final_lr": 0.01, "gamma": 0.5, "box": (-0.3, 0.3), "weight_decay": 0.1},
            {"bias_correction": False, "betas": (0.0, 0.99), "eps": 1e-3},
        ]
    ),
    Case(Bop, {"gamma": 0.1, "threshold": 1e-2}),
    Case(Bop, {"gamma": 0.5, "threshold": 0.0, "lr": 0.3}),
    Case(Bop2ndOrder, {"gamma": 0.05, "threshold": 0.1}),
    Case(Bop2ndOrder, {"gamma": 0.05, "threshold": 0.3, "sigma": 0.1, "unbiased": True}),
    *(
        Case(rule, options)
        for rule in (ClippedSGD, NormalizedSGD)
        for options in [
            {"lr": 0.1},
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "norm": "tensor"},
            {"lr": 1.0, "momentum": 0.5, "box": (-0.2, 0.3)},
        ]
    ),
]

#: One row a rule, for laws that do not depend on options.
RULES = [next(case for case in CASES if case.rule is rule) for rule in TWINS]

cases = pytest.mark.parametrize("case", CASES, ids=str)
rules = pytest.mark.parametrize("case", RULES, ids=lambda case: case.rule.__name__)


def rows(chosen: list[Case], without: tuple[str, ...] = ()) -> Any:
    """Each row on each of its paths, as the arguments ``case`` and ``path``."""
    return pytest.mark.parametrize(
        ("case", "path"),
        [
            pytest.param(case, path, id=f"{case}-{path}")
            for case in chosen
            for path in case.paths
            if path not in without
        ],
    )


case_by_path = rows(CASES)
rule_by_path = rows(RULES)
case_by_other_path = rows(CASES, without=("single", "fused"))


def gradients(params: Sequence[Tensor], step: int, seed: int = 0) -> list[Tensor]:
    """Float64 gradients of a step from 0: the first of the first tensor is zero, some are large."""
    generator = torch.Generator().manual_seed(1000 * seed + step)
    made = []
    for i, p in enumerate(params):
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        made.append(g * (0.0 if i == step == 0 else 4.0 if step % 7 == 3 else 1.0))
    return made


def give(params: Sequence[Tensor], grads: Sequence[Tensor]) -> None:
    """Put copies of the gradients on the parameters, in their dtype and layout."""
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.empty_like(p).copy_(g)


def run(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], steps: range, seed: int = 0
) -> None:
    """Step through the standard gradients."""
    for step in steps:
        give(params, gradients(params, step, seed))
        optimizer.step()


def parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All parameters, in the order of the groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def assert_same(a: torch.optim.Optimizer, b: torch.optim.Optimizer, **tolerance: float) -> None:
    """Demand equal parameters and state: bit by bit, or within the tolerance."""
    for p, q in zip(parameters(a), parameters(b), strict=True):
        pairs = [("the weight", p.detach(), q.detach())]
        assert a.state[p].keys() == b.state[q].keys()
        pairs += [(key, x, b.state[q][key]) for key, x in a.state[p].items()]
        for name, x, y in pairs:
            assert x.dtype == y.dtype, name
            torch.testing.assert_close(
                y, x, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}",
                **(tolerance or {"rtol": 0, "atol": 0}),
            )  # fmt: skip
