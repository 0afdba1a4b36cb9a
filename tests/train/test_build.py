from __future__ import annotations

from typing import get_args

import pytest
from torch import nn

from coarsegrad import ste
from coarsegrad.nn import LatentWeight
from coarsegrad.train.build import build_model
from coarsegrad.train.recipe import Recipe, SteName

CLASSES = {
    "identity": ste.Identity,
    "clipped_identity": ste.ClippedIdentity,
    "triangle": ste.Triangle,
    "swish_sign": ste.SwishSign,
    "relu": ste.ReLU,
    "clipped_relu": ste.ClippedReLU,
    "sigmoid": ste.Sigmoid,
    "reverse_exp": ste.ReverseExp,
    "log_tailed": ste.LogTailedReLU,
}


@pytest.mark.parametrize("name", get_args(SteName))
def test_a_recipes_ste_is_that_of_the_activations(name: SteName) -> None:
    net: nn.Module = build_model(Recipe(model="mlp", ste=name))
    found = {
        layer.input_quantizer.ste
        for layer in net.modules()
        if isinstance(layer, LatentWeight) and layer.input_quantizer is not None
    }
    assert found == {CLASSES[name]()}


def test_without_an_ste_the_activations_have_their_own() -> None:
    signs = build_model(Recipe(model="lenet5"))
    steps = build_model(Recipe(model="lenet5", precision="W1A2"))  # hard tanh would warn
    assert signs[3].input_quantizer.ste == ste.ClippedIdentity()
    assert steps[3].input_quantizer.ste == ste.ReLU()
