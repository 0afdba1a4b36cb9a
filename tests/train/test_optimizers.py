from __future__ import annotations

import pytest

from coarsegrad.errors import RecipeError
from coarsegrad.models import mlp
from coarsegrad.train import Recipe
from coarsegrad.train.optimizers import build_optimizer


def test_a_cstar_that_no_rule_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match="cstar to literal, which only bamsprod reads"):
        build_optimizer(mlp(), Recipe(optimizer="adam", optimizer_real="adam", cstar="literal"))
    optimizer = build_optimizer(mlp(), Recipe(optimizer="bamsprod", cstar="literal"))
    assert optimizer.param_groups[0]["cstar"] == "literal"


def test_options_that_a_rule_does_not_know_are_refused() -> None:
    with pytest.raises(RecipeError, match="optimizer adam with options"):
        build_optimizer(mlp(), Recipe(optimizer="adam", options={"kapa": 1.0}))
