from __future__ import annotations

from typing import get_args

import pytest

from coarsegrad.errors import RecipeError
from coarsegrad.models import float_twin, lenet5, mlp
from coarsegrad.train import Recipe
from coarsegrad.train.optimizers import build_optimizer
from coarsegrad.train.recipe import RuleName


def test_a_cstar_that_no_rule_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match="cstar to literal, which only bamsprod reads"):
        build_optimizer(mlp(), Recipe(optimizer="adam", optimizer_real="adam", cstar="literal"))
    optimizer = build_optimizer(mlp(), Recipe(optimizer="bamsprod", cstar="literal"))
    assert optimizer.param_groups[0]["cstar"] == "literal"

    twin = Recipe(model="mlp", twin=True, optimizer_real="adam", cstar="literal")
    with pytest.raises(RecipeError, match="its optimizer_real is adam; leave cstar out, or set op"):
        build_optimizer(float_twin(mlp()), twin)


def test_a_twins_parameters_are_real() -> None:
    recipe = Recipe(model="mlp", twin=True, optimizer_real="adam", lr_real=0.5)
    (group,) = build_optimizer(float_twin(mlp()), recipe).param_groups
    assert (group["binary"], group["lr"]) == (False, 0.5)
    assert len(group["params"]) == len(list(mlp().parameters()))


def test_options_that_a_rule_does_not_know_are_refused() -> None:
    with pytest.raises(RecipeError, match="optimizer adam with options"):
        build_optimizer(mlp(), Recipe(optimizer="adam", options={"kapa": 1.0}))


def test_without_latent_weights_everything_is_real() -> None:
    recipe = Recipe(
        model="lenet5", precision="W32A2", optimizer_real="sgdm", lr_real=0.5, weight_decay=0.25
    )
    (group,) = build_optimizer(lenet5(precision="W32A2"), recipe).param_groups
    assert (group["binary"], group["lr"], group["momentum"]) == (False, 0.5, 0.9)
    assert (group["weight_decay"], group["nesterov"]) == (0.25, False)
    cstar = Recipe(model="lenet5", precision="W32A2", optimizer_real="sgdm", cstar="literal")
    with pytest.raises(RecipeError, match="its optimizer_real is sgdm"):
        build_optimizer(lenet5(precision="W32A2"), cstar)


@pytest.mark.parametrize("rule", get_args(RuleName))
def test_the_weight_decay_is_that_of_real_parameters(rule: RuleName) -> None:
    recipe = Recipe(optimizer_real=rule, weight_decay=0.25)
    groups = {g["binary"]: g["weight_decay"] for g in build_optimizer(mlp(), recipe).param_groups}
    assert groups == {True: 0.0, False: 0.25}
