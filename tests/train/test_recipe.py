from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from coarsegrad.errors import RecipeError
from coarsegrad.train import Recipe, read_recipe, recipe_path

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_bundled_recipe_loads_and_holds_only_differences(path: Path) -> None:
    recipe = read_recipe(path)
    assert read_recipe(recipe_path(path.stem)) == recipe
    assert 0 < len(path.read_text().splitlines()) < len(dataclasses.fields(Recipe))


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text)
    return path


def test_resolved_recipe_reads_back(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, lr_real=0.02, limit=None, ste="triangle")
    assert read_recipe(write(tmp_path, recipe.to_yaml())) == recipe
    assert len(recipe.to_yaml().splitlines()) == len(dataclasses.fields(Recipe))


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="epochs"):
        Recipe().epochs = 3  # type: ignore[misc]


def test_changes_win(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, "epochs: 2\nseed: 5"), {"epochs": 9}).epochs == 9


BAD = [
    ("epoch: 3", r"r.yaml has an unknown key 'epoch'. Did you mean 'epochs'\? Allowed: data, "),
    ("learning_rate: 3", "unknown key 'learning_rate'"),
    ("epochs: 0", "r.yaml: epochs is 0; input should be greater than or equal to 1"),
    ("epochs: many", "epochs is 'many'; input should be a valid integer"),
    ("epochs: yes", "epochs is True; input should be a valid integer"),
    ("lr_real: .nan", "lr_real is nan; input should be"),
    ("beta1: 1.0", "beta1 is 1.0; input should be less than 1"),
    (
        "model: small_cmm",
        "should be 'small_cnn', 'mlp', 'lenet5', 'binarized_lenet5', 'vgg_small', 'cnn7', 'vg",
    ),
    ("- 1\n- 2", "needs lines of 'key: value', got list"),
    ("a: [", "cannot read the recipe"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_refuses(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_unknown_name() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'mnist_small_cnn'\? Recipes: .*mnist_mlp"):
        recipe_path("mnist_smal_cnn")


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read_recipe(write(tmp_path, "")) == Recipe()
