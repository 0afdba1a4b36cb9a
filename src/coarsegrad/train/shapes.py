"""Which models take which data, and what else a recipe's model understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from coarsegrad.errors import RecipeError

if TYPE_CHECKING:
    from coarsegrad.train.recipe import Recipe


class _Model(NamedTuple):
    shape: tuple[int, int, int]
    takes_width: bool


_DIGIT, _COLOUR = (1, 28, 28), (3, 32, 32)
DATA = {"mnist": _DIGIT, "digits": _DIGIT, "cifar10": _COLOUR}
MODELS = {
    "small_cnn": _Model(_DIGIT, takes_width=False),
    "mlp": _Model(_DIGIT, takes_width=True),
    "lenet5": _Model(_DIGIT, takes_width=False),
    "vgg_small": _Model(_COLOUR, takes_width=True),
}
# What a float twin has no use for.
_BINARY_ONLY = ("ste", "optimizer", "options", "lr_binary", "average", "diagnostics")


def input_shape(recipe: Recipe) -> tuple[int, ...]:
    """Return the shape of one sample, (channels, height, width); nothing is loaded.

    >>> from coarsegrad.train import Recipe
    >>> input_shape(Recipe(data="cifar10", model="vgg_small"))
    (3, 32, 32)
    """
    return DATA[recipe.data]


def check(recipe: Recipe) -> None:
    """Refuse a recipe whose parts do not go together, or whose values have no effect.

    Raises:
        RecipeError: the model takes images of another shape or no width; the float twin of a
            model is given options of binary networks.
    """
    model, shape = MODELS[recipe.model], DATA[recipe.data]
    if model.shape != shape:
        models = [name for name, other in MODELS.items() if other.shape == shape]
        sets = [name for name, other in DATA.items() if other == model.shape]
        raise RecipeError(
            f"model: {recipe.model} takes images of shape {model.shape}, but data: {recipe.data} "
            f"has {shape}; choose model: {' or '.join(models)}, or data: {' or '.join(sets)}"
        )
    if recipe.width is not None and not model.takes_width:
        takers = [name for name, other in MODELS.items() if other.takes_width]
        raise RecipeError(
            f"width: {recipe.width} has no effect, since model: {recipe.model} has one width only; "
            f"leave width out, or choose model: {' or '.join(takers)}"
        )
    if recipe.twin:
        _check_twin(recipe, type(recipe)())


def _check_twin(recipe: Recipe, plain: Recipe) -> None:
    for key in _BINARY_ONLY:
        if (value := getattr(recipe, key)) != getattr(plain, key):
            raise RecipeError(
                f"{key}: {value} has no effect with twin: true, whose weights and activations are "
                f"float: optimizer_real and lr_real train them; leave {key} out, or twin"
            )
