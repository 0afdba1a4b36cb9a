"""Reading a run folder: the recipe, and the model as it ended, averaged or sparse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from coarsegrad.errors import TrainError
from coarsegrad.optim import RVS
from coarsegrad.train import ema
from coarsegrad.train.averaging import AverageLatents
from coarsegrad.train.build import Task, build_model, build_task
from coarsegrad.train.optimizers import build_optimizer
from coarsegrad.train.recipe import Recipe, read_recipe
from coarsegrad.train.sparse import at_twin


def load_run(
    folder: str | Path, *, averaged: bool = False, sparse: bool = False
) -> tuple[Recipe, nn.Module]:
    """Return a run's recipe and its trained model, in evaluation mode.

    Args:
        folder: the run folder.
        averaged: the model at its averaged latents, as the run measured it; batch norm's
            statistics are estimated anew, which takes the training images.
        sparse: the model at its sparse twin u, likewise.

    Raises:
        TrainError: the folder holds no run, or a run without a checkpoint, averages or twin;
            ``averaged`` and ``sparse`` at once.
        RecipeError: its recipe.yaml is damaged.
        DataError: ``averaged`` or ``sparse``, and the data set is missing or damaged.
    """
    folder = Path(folder)
    for file in (folder / "recipe.yaml", folder / "last.ckpt"):
        if not file.is_file():
            raise TrainError(
                f"{folder} needs to be a run folder with recipe.yaml and last.ckpt, "
                f"{file.name} is missing; make one with: coarsegrad train RECIPE"
            )
    recipe = read_recipe(folder / "recipe.yaml")
    _check_form(folder, recipe, averaged, sparse)
    net, values, splitting = _restored(folder, recipe, averaged, sparse)
    if averaged:
        net = ema.averaged(net, values, statistics(recipe, build_task(recipe))())
    if splitting is not None:
        net = at_twin(net, splitting, statistics(recipe, build_task(recipe))())
    return recipe, net.eval()


def statistics(recipe: Recipe, task: Task) -> Callable[[], Iterator[Tensor]]:
    """Return what gives a recipe's batches for batch norm's statistics, at each call anew."""
    return partial(ema.statistics_batches, task.train, recipe.average_images, recipe.seed)


def _check_form(folder: Path, recipe: Recipe, averaged: bool, sparse: bool) -> None:
    if averaged and sparse:
        raise TrainError("load_run gives averaged=True or sparse=True, not both at once")
    if averaged and recipe.average is None:
        raise TrainError(
            f"{folder} keeps no averages of its latent weights, for its recipe has no average; "
            "train with average: 0.99 or the like, or take the model as it ended"
        )
    if sparse and not recipe.rvs:
        raise TrainError(
            f"{folder} has no sparse twin, for its recipe has no rvs; train with rvs: {{lam: "
            "1e-3, beta: 1.0}} or the like, or take the model as it ended"
        )


def _restored(
    folder: Path, recipe: Recipe, averaged: bool, sparse: bool
) -> tuple[nn.Module, Mapping[str, Tensor], RVS | None]:
    """Return the model as it ended, its averages if wanted, and the optimizer that knows u."""
    net = build_model(recipe)
    splitting: RVS | None = None
    prefix = "net."
    try:
        saved = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)
        state = saved["state_dict"]
        net.load_state_dict(
            {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        )
        values = saved["callbacks"][AverageLatents.__qualname__]["values"] if averaged else {}
        if sparse:
            optimizer = build_optimizer(net, recipe)
            assert isinstance(optimizer, RVS)
            optimizer.load_state_dict(saved["optimizer_states"][0])
            splitting = optimizer
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # Of a damaged file torch raises whatever its unpickler stumbles over: struct.error, ...
        raise TrainError(
            f"{folder / 'last.ckpt'} does not hold the weights of {folder / 'recipe.yaml'}'s "
            f"{recipe.model}: it is damaged, or one of the two was exchanged ({error}); train again"
        ) from None
    return net, values, splitting
