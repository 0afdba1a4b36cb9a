"""A run: recipe -> runs/NAME with recipe.yaml, last.ckpt, metrics.csv and TensorBoard's events."""

from __future__ import annotations

import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from coarsegrad.data import Batches, pixels
from coarsegrad.errors import RecipeError, TrainError
from coarsegrad.files import replacing
from coarsegrad.optim import RVS
from coarsegrad.train import ema
from coarsegrad.train.averaging import AverageLatents
from coarsegrad.train.build import Task, build_model, build_task
from coarsegrad.train.callbacks import AtomicCheckpoints, MetricsTable, Row, SaveLast
from coarsegrad.train.classification import Classifier
from coarsegrad.train.diagnosing import LogDiagnostics
from coarsegrad.train.optimizers import build_optimizer
from coarsegrad.train.recipe import Recipe, read_recipe
from coarsegrad.train.smoothness import Smoothness
from coarsegrad.train.sparse import MeasureSparse, at_twin

_EVALUATION_BATCH = 500
_SMOOTHNESS_BATCH = 1000


@dataclass(frozen=True)
class Result:
    """What a run measured at the end of its last epoch.

    Attributes:
        accuracy: share of right answers, 0 to 1, at the latent weights as they ended.
        averaged_accuracy: the same at their averages; None if the recipe keeps none.
        sparse_accuracy: the same at the sparse twin u; None without variable splitting.
        sparsity: share of zeros in u, among the weights that are pruned.
        images: how many images it was measured on.
        measured_on: ``"test"`` or ``"validation"``.
        data: the data set's label.
        seconds: wall time of training, this process only.
    """

    accuracy: float
    images: int
    measured_on: str
    data: str
    seconds: float
    averaged_accuracy: float | None = None
    sparse_accuracy: float | None = None
    sparsity: float | None = None


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    show: Callable[[Row], None] | None = None,
    progress: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
) -> Result:
    """Train a recipe and leave a run folder.

    The final weights are a function of the recipe, the machine and the thread count: a run that
    was killed and resumed ends on the same bits as one that was not.

    Args:
        recipe: what to train.
        folder: the run folder, made if missing.
        resume: go on from the folder's last.ckpt; its recipe must be this one.
        show: called after each epoch with its row of metrics.
        progress: whether to draw a progress bar.
        callbacks: more Lightning callbacks, run before coarsegrad's own.

    Raises:
        TrainError: the folder holds a run and ``resume`` is not set, or no checkpoint and it is,
            or another recipe's; or the loss became non-finite.
        DataError: the data set is missing or damaged.
        RecipeError: ``start`` is a run of another model.
    """
    folder = Path(folder)
    checkpoint = folder / "last.ckpt"
    _check_folder(folder, recipe, resume)
    task = build_task(recipe)
    loader = Batches(
        task.train.x,
        task.train.y,
        recipe.batch_size,
        seed=recipe.seed,
        shuffle=True,
        drop_last=True,
        augment=recipe.augment,
    )
    steps = recipe.epochs * len(loader)
    module = Classifier(_initial(recipe), recipe, task.train.classes, steps)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "recipe.yaml") as temporary:
        temporary.write_text(recipe.to_yaml(), encoding="utf-8")
    evaluation = Batches(
        task.evaluation.x, task.evaluation.y, _EVALUATION_BATCH, seed=0, shuffle=False
    )
    start = time.monotonic()
    with _quiet():
        own: list[Any] = [
            MetricsTable(folder / "metrics.csv", show),
            SaveLast(folder / "last.ckpt", recipe.checkpoint_every),
        ]
        every = [*_measuring(recipe, task, folder), *callbacks, *own]
        trainer = _trainer(recipe, folder, every, progress)
        found = _fit(trainer, module, loader, evaluation, task, checkpoint, resume)
    return Result(
        accuracy=found[f"{task.measured_on}_accuracy"],
        images=len(task.evaluation),
        measured_on=task.measured_on,
        data=task.train.name,
        seconds=time.monotonic() - start,
        averaged_accuracy=found.get("averaged_accuracy"),
        sparse_accuracy=found.get("sparse_accuracy"),
        sparsity=found.get("sparsity"),
    )


def _fit(
    trainer: lightning.Trainer,
    module: Classifier,
    loader: Batches,
    evaluation: Batches,
    task: Task,
    checkpoint: Path,
    resume: bool,
) -> dict[str, float]:
    # Held-out images are looked at after each epoch; test images once, at the end.
    held_out = task.measured_on == "validation"
    before = str(checkpoint) if resume else None
    try:
        trainer.fit(module, loader, evaluation if held_out else None, ckpt_path=before)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit of its own.
        raise KeyboardInterrupt from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if not resume or module.global_step:
            raise
        raise TrainError(f"cannot resume from {checkpoint}: {error}; train afresh") from error
    trainer.save_checkpoint(checkpoint)
    measure = trainer.validate if held_out else trainer.test
    return {
        key: float(value) for key, value in measure(module, evaluation, verbose=False)[0].items()
    }


def _measuring(recipe: Recipe, task: Task, folder: Path) -> list[lightning.Callback]:
    found: list[lightning.Callback] = []
    if recipe.average is not None:
        found.append(AverageLatents(recipe.average, _statistics(recipe, task)))
    if recipe.rvs:
        found.append(MeasureSparse(_statistics(recipe, task)))
    if recipe.diagnostics:
        found.append(LogDiagnostics())
    if recipe.smoothness is not None:
        fixed = task.train.take(slice(0, _SMOOTHNESS_BATCH))
        batch = torch.from_numpy(pixels(fixed.x)), torch.from_numpy(fixed.y)
        found.append(Smoothness(folder / "smoothness.csv", recipe.smoothness, batch=batch))
    return found


def _statistics(recipe: Recipe, task: Task) -> Callable[[], Iterator[Tensor]]:
    return partial(ema.statistics_batches, task.train, recipe.average_images, recipe.seed)


def _initial(recipe: Recipe) -> nn.Module:
    net = build_model(recipe)
    if recipe.start is not None:
        before, trained = load_run(recipe.start)
        try:
            net.load_state_dict(trained.state_dict())
        except RuntimeError:
            raise RecipeError(
                f"start: {recipe.start} is a run of {before.model} with other weights than those "
                f"of model: {recipe.model} as the recipe builds it; start from a run of the same "
                "model and options"
            ) from None
    return net


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
        TrainError: the folder holds no run, or a run without a checkpoint, averages or twin.
        RecipeError: its recipe.yaml is damaged.
        DataError: ``averaged`` or ``sparse``, and the data set is missing or damaged.
    """
    folder = Path(folder)
    recipe_file, checkpoint = folder / "recipe.yaml", folder / "last.ckpt"
    for file in (recipe_file, checkpoint):
        if not file.is_file():
            raise TrainError(
                f"{folder} needs to be a run folder with recipe.yaml and last.ckpt, "
                f"{file.name} is missing; make one with: coarsegrad train RECIPE"
            )
    recipe = read_recipe(recipe_file)
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
    net = build_model(recipe)
    prefix = "net."
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = saved["state_dict"]
        net.load_state_dict(
            {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
        )
        values = saved["callbacks"][AverageLatents.__qualname__]["values"] if averaged else {}
        if sparse:
            splitting = build_optimizer(net, recipe)
            splitting.load_state_dict(saved["optimizer_states"][0])
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # Of a damaged file torch raises whatever its unpickler stumbles over: struct.error, ...
        raise TrainError(
            f"{checkpoint} does not hold the weights of {recipe_file}'s {recipe.model}: it is "
            f"damaged, or one of the two was exchanged ({error}); train again"
        ) from None
    if averaged:
        net = ema.averaged(net, values, _statistics(recipe, build_task(recipe))())
    if sparse:
        assert isinstance(splitting, RVS)
        net = at_twin(net, splitting, _statistics(recipe, build_task(recipe))())
    return recipe, net.eval()


def _check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    checkpoint = folder / "last.ckpt"
    if resume:
        if not checkpoint.is_file():
            raise TrainError(f"there is nothing to resume in {folder}: it has no last.ckpt")
        before = read_recipe(folder / "recipe.yaml")
        if before != recipe:
            raise TrainError(
                f"{folder} was trained with another recipe than the one to resume with; "
                f"resume with {folder / 'recipe.yaml'}, or train into another folder"
            )
    elif checkpoint.exists():
        raise TrainError(
            f"{folder} holds a run already; go on with it by --resume, "
            "or choose another folder, or remove it"
        )


def _trainer(
    recipe: Recipe, folder: Path, callbacks: list[Any], progress: bool
) -> lightning.Trainer:
    if progress:
        callbacks.append(lightning.pytorch.callbacks.RichProgressBar())
    return lightning.Trainer(
        max_epochs=recipe.epochs,
        accelerator="auto",
        devices=1,
        callbacks=callbacks,
        val_check_interval=1 / recipe.evaluations,
        plugins=[AtomicCheckpoints()],
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        enable_checkpointing=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Lightning says of itself; its errors and other warnings pass."""
    loggers = [
        logging.getLogger(f"lightning.{name}")
        for name in ("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "pytorch")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # No held-out images is a choice; the others are Lightning 2.6 on torch 2.13.
            for message in (
                "You defined a `validation_step`",
                "`isinstance\\(treespec, LeafSpec",
                "The '.*_dataloader' does not have many workers",
                "The number of training batches",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
