"""A run: recipe -> runs/NAME with recipe.yaml, last.ckpt, metrics.csv and TensorBoard's events."""

from __future__ import annotations

import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from coarsegrad.data import Batches, pixels
from coarsegrad.errors import RecipeError, TrainError
from coarsegrad.files import replacing
from coarsegrad.train.averaging import AverageLatents
from coarsegrad.train.build import Task, build_model, build_task
from coarsegrad.train.callbacks import AtomicCheckpoints, MetricsTable, Row, SaveLast
from coarsegrad.train.classification import Classifier
from coarsegrad.train.diagnosing import LogDiagnostics
from coarsegrad.train.load import load_run, statistics
from coarsegrad.train.recipe import Recipe, read_recipe
from coarsegrad.train.smoothness import Smoothness
from coarsegrad.train.sparse import MeasureSparse

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
        found.append(AverageLatents(recipe.average, statistics(recipe, task)))
    if recipe.rvs:
        found.append(MeasureSparse(statistics(recipe, task)))
    if recipe.diagnostics:
        found.append(LogDiagnostics())
    if recipe.smoothness is not None:
        fixed = task.train.take(slice(0, _SMOOTHNESS_BATCH))
        batch = torch.from_numpy(pixels(fixed.x)), torch.from_numpy(fixed.y)
        found.append(Smoothness(folder / "smoothness.csv", recipe.smoothness, batch=batch))
    return found


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
