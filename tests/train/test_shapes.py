"""What a recipe's model takes, and what goes together."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest
import torch

from coarsegrad import data, models
from coarsegrad.errors import RecipeError
from coarsegrad.models import float_twin
from coarsegrad.ste import LogTailedReLU
from coarsegrad.train import Recipe, input_shape, shapes
from coarsegrad.train.build import build_model
from coarsegrad.train.recipe import Augmentation as RecipeAugmentation
from coarsegrad.train.recipe import DataName, ModelName, make_recipe


def test_the_tables_have_every_name() -> None:
    assert shapes.DATA.keys() == set(get_args(DataName))
    assert shapes.MODELS.keys() == set(get_args(ModelName))
    from coarsegrad.data.augment import Augmentation

    assert RecipeAugmentation == Augmentation


@pytest.mark.parametrize("name", get_args(ModelName))
def test_models_take_what_the_table_says(name: str) -> None:
    model = shapes.MODELS[name]
    net = getattr(models, name)()
    assert net(torch.zeros(2, *model.shape)).shape == (2, 10)
    parameters = inspect.signature(getattr(models, name)).parameters
    assert model.takes == set(shapes.OPTIONS) & set(parameters)
    if "precision" in model.takes:
        assert model.precision == parameters["precision"].default


def test_data_has_the_shape_that_the_table_says() -> None:
    assert data.digits("test").x.shape[1:] == shapes.DATA["digits"]
    takers = {"mnist": "mlp", "digits": "small_cnn", "cifar10": "vgg_small"}
    for name, model in takers.items():
        recipe = make_recipe({"data": name, "model": model}, "a test")
        assert input_shape(recipe) == shapes.DATA[name]
    assert takers.keys() == shapes.DATA.keys()


LENET = {"model": "lenet5"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": "vgg_small"}, r"model: vgg_small takes images of shape \(3, 32, 32\), but data: "
     r"mnist has \(1, 28, 28\); choose model: small_cnn or mlp or lenet5 or binarized_lenet5 or "),
    ({"data": "cifar10"}, r"model: small_cnn takes .* choose model: vgg_small or vgg11 or "),
    ({"width": 8}, "width: 8 has no effect, since model: small_cnn .*choose model: mlp or vgg_sm"),
    ({"model": "mlp", "width": 0}, "width is 0; input should be greater"),
    ({"augment": "flip"}, "augment is 'flip'; input should be 'none' or 'crop_flip'"),
    ({"twin": True, "lr_binary": 0.1}, "lr_binary: 0.1 has no effect with twin: true.*leave lr_b"),
    ({"twin": True, "ste": "triangle"}, "ste: triangle has no effect with twin: true"),
    ({"twin": True, "optimizer": "adam"}, "optimizer: adam has no effect with twin"),
    ({"twin": True, "options": {"eps": 1}}, r"options: \{'eps': 1\} has no effect with twin"),
    ({"twin": True, "average": 0.9}, "average: 0.9 has no effect with twin"),
    ({"twin": True, "diagnostics": True}, "diagnostics: True has no effect with twin"),
    ({"precision": "W1A2"}, "precision: W1A2 has no effect, .* choose model: lenet5"),
    ({"layout": "20-50-500"}, "layout: 20-50-500 has no effect, .* choose model: lenet5"),
    ({"float_ends": True}, "float_ends: True has no effect, .* choose model: lenet5 or vgg_small"),
    (LENET | {"precision": "W9A2"}, "precision is 'W9A2'; string should match pattern"),
    (LENET | {"layout": "1-2"}, "layout is '1-2'; input should be '6-16-120-84' or '20-50-500'"),
    (LENET | {"precision": "W32A32"}, "precision: W32A32 is the float twin .* write twin: true"),
    (LENET | {"precision": "W32A2", "float_ends": True}, "float_ends: True has no effect with pre"),
    (LENET | {"precision": "W32A2", "lr_binary": 0.1}, "lr_binary: 0.1 has no effect with precis"),
    (LENET | {"precision": "W32A2", "optimizer": "adam"}, "optimizer: adam has no effect .*lr_re"),
    (LENET | {"precision": "W1A32", "ste": "relu"}, "ste: relu has no effect with precision: W1A3"),
    (LENET | {"precision": "W2A2", "optimizer": "bop"}, "optimizer: bop flips .* W2A2 has 2; "),
    (LENET | {"precision": "W2A32", "optimizer": "bop"}, "optimizer: bop flips .* W2A32 has 2; "),
    ({"milestones": [1]}, r"milestones: \[1\] has no effect with schedule: cosine"),
    ({"gamma": 0.5, "schedule": "constant"}, "gamma: 0.5 has no effect with schedule: constant"),
    ({"schedule": "steps"}, r"schedule: steps needs milestones .* got \[\]; for example \[3\]"),
    ({"schedule": "steps", "milestones": [2, 2]}, "schedule: steps needs milestones that rise"),
    ({"schedule": "steps", "milestones": [2, 6]}, "schedule: steps .* below epochs: 6, got"),
    ({"schedule": "steps", "milestones": [1], "gamma": 1.0}, "gamma is 1.0; input should be less"),
    ({"margin": 0.2}, "margin: 0.2 has no effect, since model: small_cnn .* choose model: cnn7"),
    ({"scale": 9.0}, "scale: 9.0 has no effect, since model: small_cnn gives no cosines"),
    ({"model": "cnn7", "margin": 1.0}, "margin is 1.0; input should be less"),
    ({"model": "cnn7", "scale": 0.0}, "scale is 0.0; input should be greater"),
    ({"model": "cnn7", "lr_binary": 0.1}, "lr_binary: 0.1 has no effect with precision: W32A4"),
    ({"weight_decay": -1.0}, "weight_decay is -1.0; input should be greater"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "message"), BAD)
def test_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^a.yaml: {message}"):
        make_recipe(values, "a.yaml")


def test_a_recipe_that_cannot_be_is_not_made() -> None:
    with pytest.raises(pydantic.ValidationError, match="vgg_small takes images of shape"):
        Recipe(model="vgg_small")
    with pytest.raises(pydantic.ValidationError, match="width: 3 has no effect"):
        dataclasses.replace(Recipe(model="mlp", width=3), model="small_cnn")


def test_the_width_and_the_twin_reach_the_model() -> None:
    recipe = Recipe(data="cifar10", model="vgg_small", width=8)
    net = build_model(recipe)
    twin = build_model(dataclasses.replace(recipe, twin=True))
    assert net[0].out_channels == 8
    assert str(twin) == str(float_twin(net))
    for mine, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert (mine == other).all()


def test_what_a_model_takes_reaches_it() -> None:
    recipe = Recipe(model="lenet5", precision="W1A2", layout="20-50-500", float_ends=True,
                    ste="log_tailed")  # fmt: skip
    net = build_model(recipe)
    expected = models.lenet5(LogTailedReLU(), precision="W1A2", layout="20-50-500", float_ends=True)
    assert str(net) == str(expected)
    twin = build_model(Recipe(model="lenet5", precision="W32A2", twin=True))
    assert str(twin) == str(float_twin(models.lenet5(precision="W32A2")))


def test_float_activations_have_no_coarse_derivative() -> None:
    for twin in (False, True):
        net = build_model(Recipe(model="lenet5", precision="W1A32", twin=twin))
        relus = sum(isinstance(module, torch.nn.ReLU) for module in net.modules())
        assert relus == 4
        assert not [m for m in net.modules() if getattr(m, "input_quantizer", None)]


def test_old_recipes_load(tmp_path: Path) -> None:
    """A run folder of version 0.1 has none of the new keys."""
    from coarsegrad.train import read_recipe

    recipe = Recipe(epochs=3)
    lines = recipe.to_yaml().splitlines()
    new = ("augment", "width", "twin", "precision", "layout", "float_ends", "weight_decay",
           "milestones", "gamma", "scale", "margin")  # fmt: skip
    old = [line for line in lines if line.partition(":")[0] not in new]
    assert len(old) == len(lines) - len(new)
    (tmp_path / "recipe.yaml").write_text("\n".join(old))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
