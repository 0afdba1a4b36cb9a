"""Which models take which data, and what else a recipe's values do or do not decide."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from coarsegrad.errors import RecipeError

if TYPE_CHECKING:
    from coarsegrad.train.recipe import Recipe


class _Model(NamedTuple):
    shape: tuple[int, int, int]
    precision: str  # unless the recipe says otherwise
    takes: frozenset[str] = frozenset()
    gives_cosines: bool = False


_DIGIT, _COLOUR = (1, 28, 28), (3, 32, 32)
DATA = {"mnist": _DIGIT, "digits": _DIGIT, "cifar10": _COLOUR}
MODELS = {
    "small_cnn": _Model(_DIGIT, "W1A1"),
    "mlp": _Model(_DIGIT, "W1A1", frozenset({"width"})),
    "lenet5": _Model(_DIGIT, "W1A1", frozenset({"precision", "layout", "float_ends"})),
    "binarized_lenet5": _Model(_DIGIT, "W32A1", frozenset({"norm"})),
    "vgg_small": _Model(_COLOUR, "W1A1", frozenset({"width", "float_ends"})),
    "cnn7": _Model(_DIGIT, "W32A4", frozenset({"width", "precision"}), gives_cosines=True),
    "vgg11": _Model(_COLOUR, "W32A4", frozenset({"width", "precision"})),
    "resnet20": _Model(_COLOUR, "W32A4", frozenset({"width", "precision"})),
}
#: Keys of a recipe that are arguments of some models; None leaves the model's own value.
OPTIONS = ("width", "precision", "layout", "float_ends", "norm")
# What is of use to latent weights alone, and what to quantized activations.
_LATENT_ONLY = ("optimizer", "options", "lr_binary", "average", "diagnostics")
_FLIPPING = ("bop", "bop2ndorder")


def input_shape(recipe: Recipe) -> tuple[int, ...]:
    """Return the shape of one sample, (channels, height, width); nothing is loaded.

    >>> from coarsegrad.train import Recipe
    >>> input_shape(Recipe(data="cifar10", model="vgg_small"))
    (3, 32, 32)
    """
    return DATA[recipe.data]


def model_options(recipe: Recipe) -> dict[str, Any]:
    """Return the arguments of the recipe's model that it does not leave to the model."""
    given = {key: getattr(recipe, key) for key in OPTIONS}
    return {key: value for key, value in given.items() if value is not None}


def precision(recipe: Recipe) -> tuple[int, int]:
    """Return the bits of the weights and activations of the recipe's model; 32 is float.

    >>> from coarsegrad.train import Recipe
    >>> precision(Recipe(model="lenet5", precision="W32A2"))
    (32, 2)
    """
    weights, activations = (recipe.precision or MODELS[recipe.model].precision)[1:].split("A")
    return int(weights), int(activations)


def has_latents(recipe: Recipe) -> bool:
    """Return whether the recipe trains latent weights."""
    return not recipe.twin and precision(recipe)[0] != 32


def check(recipe: Recipe) -> None:
    """Refuse a recipe whose parts do not go together, or whose values have no effect.

    Raises:
        RecipeError: the model takes images of another shape, or has no such option; options of
            latent weights where there are none, or of quantized activations; milestones that no
            schedule passes.
    """
    model, shape = MODELS[recipe.model], DATA[recipe.data]
    if model.shape != shape:
        models = [name for name, other in MODELS.items() if other.shape == shape]
        sets = [name for name, other in DATA.items() if other == model.shape]
        raise RecipeError(
            f"model: {recipe.model} takes images of shape {model.shape}, but data: {recipe.data} "
            f"has {shape}; choose model: {' or '.join(models)}, or data: {' or '.join(sets)}"
        )
    for key, value in model_options(recipe).items():
        if key not in model.takes:
            takers = [name for name, other in MODELS.items() if key in other.takes]
            raise RecipeError(
                f"{key}: {value} has no effect, since model: {recipe.model} has one {key} only; "
                f"leave {key} out, or choose model: {' or '.join(takers)}"
            )
    for key in ("scale", "margin"):
        if (value := getattr(recipe, key)) is not None and not model.gives_cosines:
            takers = [name for name, other in MODELS.items() if other.gives_cosines]
            raise RecipeError(
                f"{key}: {value} has no effect, since model: {recipe.model} gives no cosines and "
                f"is trained by cross entropy; leave {key} out, or choose model: "
                f"{' or '.join(takers)}"
            )
    _check_precision(recipe)
    _check_schedule(recipe)


def _check_precision(recipe: Recipe) -> None:
    weights, activations = precision(recipe)
    given = f"precision: W{weights}A{activations}"
    if (weights, activations) == (32, 32):
        raise RecipeError(f"{given} is the float twin of a network; write twin: true instead")
    if weights == 32 and recipe.float_ends is not None:
        raise RecipeError(
            f"float_ends: {recipe.float_ends} has no effect with {given}, whose weights are float "
            "throughout; leave float_ends out, or choose W1 to W8"
        )
    if recipe.twin:
        because = "twin: true, whose weights and activations are float"
        _refuse(recipe, (*_LATENT_ONLY, "ste"), because)
    elif weights == 32:
        _refuse(recipe, _LATENT_ONLY, f"{given}, whose weights are float")
    elif activations == 32:
        _refuse(recipe, ("ste",), f"{given}, whose activations are float")
    if recipe.optimizer in _FLIPPING and weights != 1:
        raise RecipeError(
            f"optimizer: {recipe.optimizer} flips weights of 1 bit, but {given} has {weights}; "
            "choose another optimizer, or W1"
        )


def _refuse(recipe: Recipe, keys: tuple[str, ...], because: str) -> None:
    plain = type(recipe)()
    for key in keys:
        if (value := getattr(recipe, key)) != getattr(plain, key):
            trained = ": optimizer_real and lr_real train them" if key in _LATENT_ONLY else ""
            raise RecipeError(
                f"{key}: {value} has no effect with {because}{trained}; leave {key} out, or "
                + because.partition(":")[0]
            )


def _check_schedule(recipe: Recipe) -> None:
    if recipe.schedule != "steps":
        idle = "milestones" if recipe.milestones else "gamma"
        if recipe.milestones or recipe.gamma != type(recipe).gamma:
            raise RecipeError(
                f"{idle}: {getattr(recipe, idle)} has no effect with schedule: {recipe.schedule}; "
                f"leave {idle} out, or choose schedule: steps"
            )
        return
    rising = all(a < b for a, b in pairwise(recipe.milestones))
    if not recipe.milestones or not rising or recipe.milestones[-1] >= recipe.epochs:
        raise RecipeError(
            f"schedule: steps needs milestones that rise and lie below epochs: {recipe.epochs}, "
            f"got {recipe.milestones}; for example [{max(1, recipe.epochs // 2)}]"
        )
