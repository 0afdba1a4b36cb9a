"""``coarsegrad train``: a recipe into a run folder."""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli.answer import Answer, show
from coarsegrad.cli.completion import complete_recipe
from coarsegrad.cli.options import Json

if TYPE_CHECKING:
    from coarsegrad.train import Recipe, Result


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe: a YAML file or a bundled name.",
            metavar="RECIPE",
            autocompletion=complete_recipe,
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--run", metavar="FOLDER", help="The run folder [default: runs/RECIPE]."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Train seeds 0 to N-1; report mean and spread."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from last.ckpt.")] = False,
    as_json: Json = False,
) -> Answer:
    """Train a recipe into a run folder."""
    changes = _changes(change or [])
    if seeds is not None and "seed" in changes:
        raise typer.BadParameter("--seeds and --set seed=... exclude each other")
    _needs_training()
    from coarsegrad.train import read_recipe, recipe_path

    path = recipe_path(recipe)
    folder = Path(os.path.normpath(folder or Path("runs") / path.stem))
    if seeds is None:
        result = run_recipe(read_recipe(path, changes), folder, resume=resume)
        return Answer(
            to_dict(result, folder),
            (sentence(result), f"run folder: {folder}; next: coarsegrad pack {folder}"),
        )
    places, results = [], []
    for seed in range(seeds):
        place = folder.parent / f"{folder.absolute().name}-seed{seed}"
        show(f"seed {seed}: {place}")
        going_on = resume and (place / "last.ckpt").exists()
        changed = read_recipe(path, {**changes, "seed": seed})
        results.append(run_recipe(changed, place, resume=going_on))
        places.append(place)
    return _over_seeds(places, results)


def run_recipe(recipe: Recipe, folder: Path, *, resume: bool = False) -> Result:
    """Train, showing each epoch; Ctrl-C says how to go on."""
    from coarsegrad.train import train

    def epoch(row: dict[str, float]) -> None:
        held_out = row.get("validation_accuracy")
        end = "" if held_out is None else f", validation {held_out:.2%}"
        if "averaged_accuracy" in row:
            end += f" ({row['averaged_accuracy']:.2%} averaged)"
        if "sparse_accuracy" in row:
            end += f" ({row['sparse_accuracy']:.2%} at u, {row['sparsity']:.2%} zeros)"
        show(
            f"  epoch {row['epoch']:.0f}/{recipe.epochs}: loss {row['train_loss']:.4f}, "
            f"training accuracy {row['train_accuracy']:.2%}{end}"
        )

    try:
        return train(recipe, folder, resume=resume, show=epoch, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        saved = (folder / "last.ckpt").is_file()
        advice = "; go on with the same command and --resume" if saved else ""
        raise KeyboardInterrupt(advice) from None


def to_dict(result: Result, folder: Path) -> dict[str, Any]:
    """Return what ``--json`` says of one run."""
    return {"folder": folder, **dataclasses.asdict(result)}


def sentence(result: Result) -> str:
    """Return what a run measured, in words."""
    averaged = result.averaged_accuracy
    beside = "" if averaged is None else f" ({averaged:.2%} at averaged latents)"
    if result.sparse_accuracy is not None:
        beside += f" ({result.sparse_accuracy:.2%} at the sparse u, {result.sparsity:.2%} zeros)"
    return (
        f"{result.measured_on} accuracy {result.accuracy:.2%}{beside} on "
        f"{result.images:,} images of {result.data}, last epoch, {result.seconds:.0f} s"
    )


_AT = {
    "accuracy": "", "averaged_accuracy": " at averaged latents",
    "sparse_accuracy": " at the sparse u",
}  # fmt: skip


def _over_seeds(places: list[Path], results: list[Result]) -> Answer:
    measured = {"accuracy": [result.accuracy for result in results]}
    averaged = [r.averaged_accuracy for r in results if r.averaged_accuracy is not None]
    if averaged:
        measured["averaged_accuracy"] = averaged
    if all(r.sparse_accuracy is not None for r in results):
        measured["sparse_accuracy"] = [r.sparse_accuracy or 0.0 for r in results]
    spreads = {key: _spread(values) for key, values in measured.items()}
    first = results[0]
    shown = []
    for key, values in measured.items():
        where = _AT[key]
        found = {name: 100 * value for name, value in spreads[key].items()}
        shown.append(
            f"{first.data}, {first.measured_on} accuracy of the last epoch{where}, "
            f"{len(values)} seeds: mean {found['mean']:.2f} % (sd {found['sd']:.2f}, "
            f"lowest {found['lowest']:.2f}, highest {found['highest']:.2f}); "
            + ", ".join(f"{100 * value:.2f}" for value in values)
        )
    runs = [to_dict(result, place) for result, place in zip(results, places, strict=True)]
    return Answer({"runs": runs, **spreads}, tuple(shown))


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.mean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
        "lowest": min(values),
        "highest": max(values),
    }


def _needs_training() -> None:
    from coarsegrad.errors import require

    require("torch", "train", "training")
    require("lightning", "train", "training")


def _changes(pairs: list[str]) -> dict[str, Any]:
    from coarsegrad.errors import require

    yaml = require("yaml", "train", "training")
    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set needs KEY=VALUE, got {pair!r}")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"--set {pair!r} is not YAML: {error}") from None
    return changes
