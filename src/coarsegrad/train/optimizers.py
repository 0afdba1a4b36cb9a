"""From a recipe's names to optimizers: one rule for latent weights, one for real parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import nn
from torch.optim import Optimizer

from coarsegrad import optim
from coarsegrad.errors import RecipeError
from coarsegrad.optim.rule import Rule
from coarsegrad.train import shapes
from coarsegrad.train.recipe import Recipe

_BOX = (-1.0, 1.0)

# name -> (class, options that make it what its name says)
_RULES: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "bamsprod": (optim.BAMSProd, {}),
    "adabound": (optim.AdaBound, {"box": _BOX}),
    "amsbound": (optim.AMSBound, {"box": _BOX}),
    "bop": (optim.Bop, {}),
    "bop2ndorder": (optim.Bop2ndOrder, {}),
    "clipped_sgd": (optim.ClippedSGD, {"box": _BOX}),
    "normalized_sgd": (optim.NormalizedSGD, {"box": _BOX}),
    "adam": (torch.optim.Adam, {}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "sgdm": (torch.optim.SGD, {}),
}
FLIPPING = frozenset({"bop", "bop2ndorder"})
_WITH_MOMENTUM = frozenset({"sgdm", "clipped_sgd", "normalized_sgd"})


def build_optimizer(net: nn.Module, recipe: Recipe, epoch: int = 1) -> Optimizer:
    """Return the recipe's two rules as one optimizer, its variables split if the recipe says so.

    Latent weights end every step in [-1, 1], whichever rule moves them, so that rules are compared
    on the same set; real parameters are free.

    Args:
        net: the recipe's model.
        recipe: rules, rates and options.
        epoch: steps of an epoch, in which the recipe's ``rvs`` counts.

    Raises:
        RecipeError: an option that the rule, or RVS, does not know, a value that it refuses, or a
            cstar that no rule reads.
    """
    rules_used = {"optimizer": recipe.optimizer, "optimizer_real": recipe.optimizer_real}
    if not shapes.has_latents(recipe):
        del rules_used["optimizer"]
    if recipe.cstar != "relative" and "bamsprod" not in rules_used.values():
        key, rule = next(iter(rules_used.items()))
        raise RecipeError(
            f"the recipe sets cstar to {recipe.cstar}, which only bamsprod reads, but its "
            f"{key} is {rule}; leave cstar out, or set {key} to bamsprod"
        )
    rules = {
        "binary": _rule(
            recipe.optimizer, recipe.lr_binary, recipe, {**_watched(recipe), **recipe.options}
        ),
        "real": _rule(
            recipe.optimizer_real, recipe.lr_real, recipe, {"weight_decay": recipe.weight_decay}
        ),
    }
    try:
        optimizer = optim.Split(net, binary=rules["binary"], real=rules["real"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"the recipe's optimizer {recipe.optimizer} with options {dict(recipe.options)} is "
            f"refused: {error}"
        ) from None
    if "optimizer" in rules_used and rules["binary"][0].__module__.startswith("torch."):
        optimizer.register_step_post_hook(_Box())
    return _split(optimizer, recipe, epoch) if recipe.rvs else optimizer


def _split(optimizer: Optimizer, recipe: Recipe, epoch: int) -> Optimizer:
    options: dict[str, Any] = dict(recipe.rvs)
    for key in ("warmup", "every"):
        if isinstance(options.get(key), (int, float)):
            options[key] = math.ceil(options[key] * epoch)
    try:
        return optim.RVS(optimizer, **options)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"the recipe's rvs with options {dict(recipe.rvs)} is refused: {error}"
        ) from None


def _rule(
    name: str, lr: float, recipe: Recipe, options: Mapping[str, Any]
) -> tuple[type[Optimizer], dict[str, Any]]:
    rule, fixed = _RULES[name]
    given: dict[str, Any] = {"lr": lr, **fixed}
    if name in _WITH_MOMENTUM:
        given["momentum"] = recipe.beta1
    elif name not in FLIPPING:
        given["betas"] = (recipe.beta1, recipe.beta2)
    if rule is optim.BAMSProd:
        given["cstar"] = recipe.cstar
    return rule, {**given, **options}


def _watched(recipe: Recipe) -> dict[str, Any]:
    if recipe.diagnostics and not issubclass(_RULES[recipe.optimizer][0], Rule):
        own = ", ".join(name for name, (rule, _) in _RULES.items() if issubclass(rule, Rule))
        raise RecipeError(
            f"the recipe's diagnostics need a rule of coarsegrad, got optimizer: "
            f"{recipe.optimizer}, which is torch's; choose one of {own}, or diagnostics: false"
        )
    return {"diagnostics": True} if recipe.diagnostics else {}


@final
class _Box:
    """A hook after each step that keeps latent weights in [-1, 1]."""

    #: ``inspect.check`` reads this of an optimizer's hooks.
    bounds_latents: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            if group["binary"]:
                for parameter in group["params"]:
                    parameter.clamp_(*_BOX)
