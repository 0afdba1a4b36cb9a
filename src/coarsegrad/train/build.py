"""From a recipe's names to objects: data, model, coarse derivative."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from coarsegrad import data, models, ste
from coarsegrad.data import Images
from coarsegrad.errors import RecipeError
from coarsegrad.nn import binarize_latents_
from coarsegrad.train import shapes
from coarsegrad.train.optimizers import FLIPPING
from coarsegrad.train.recipe import Recipe

_STES: dict[str, type[ste.CoarseDerivative]] = {
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


@dataclass(frozen=True)
class Task:
    """What a run trains and measures on; ``measured_on`` is ``"test"`` or ``"validation"``."""

    train: Images
    evaluation: Images
    measured_on: str


def build_model(recipe: Recipe) -> nn.Module:
    """Return the recipe's model, or its float twin, with the initial weights of its seed.

    Torch's global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        idle = recipe.twin or shapes.precision(recipe)[1] == 32
        given = None if idle or recipe.ste is None else _STES[recipe.ste]()
        net: nn.Module = getattr(models, recipe.model)(given, **shapes.model_options(recipe))
    if recipe.twin:
        net = models.float_twin(net)
    elif recipe.optimizer in FLIPPING:
        binarize_latents_(net)
    # Channels last is the layout of torch's fastest CPU convolutions.
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_task(recipe: Recipe) -> Task:
    """Return the recipe's training and evaluation images.

    Raises:
        RecipeError: the recipe leaves no full batch to train on.
        DataError: the data set is missing or damaged.
    """
    load = getattr(data, recipe.data)
    train: Images = load("train")
    held_out = recipe.validation
    evaluation = train.take(slice(len(train) - held_out, None)) if held_out else load("test")
    train = train.take(slice(0, max(0, len(train) - held_out)))
    train = train.take(slice(0, recipe.limit))
    if len(train) < recipe.batch_size:
        raise RecipeError(
            f"the recipe trains on {len(train)} images of {train.name}, fewer than its "
            f"batch_size {recipe.batch_size}; lower validation or batch_size, or raise limit"
        )
    return Task(train, evaluation, "validation" if held_out else "test")
