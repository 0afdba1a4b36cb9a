"""``coarsegrad demo``: train, pack, verify, compare, time; a few minutes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli import bench, pack, train, verify
from coarsegrad.cli.answer import Answer, show
from coarsegrad.cli.options import Json

if TYPE_CHECKING:
    from coarsegrad.cli.source import Source
    from coarsegrad.train import Recipe

_IMAGES = 1000


def demo(
    folder: Annotated[Path, typer.Option("--run", metavar="FOLDER", help="The run folder.")] = Path(
        "runs/demo"
    ),
    as_json: Json = False,
) -> Answer:
    """Train, pack, verify and compare a binary network. A few minutes."""
    from coarsegrad.bench import compare
    from coarsegrad.cli.source import batch, resolve
    from coarsegrad.errors import require

    require("torch", "train", "the demo")
    require("lightning", "train", "the demo")
    from coarsegrad import deploy
    from coarsegrad.train import read_recipe, recipe_path

    name, note = _demo_recipe()
    recipe = read_recipe(recipe_path(name))
    _clear(folder, recipe)
    show(note, f"1. Train {recipe.model} with BAMSProd, {recipe.epochs} epochs")
    result = train.run_recipe(recipe, folder)
    show(train.sentence(result), "2. Pack it")
    source, out = resolve(str(folder)), folder / "model.cgrad"
    packed = pack.write(source, out)
    show(pack.sentence(packed), f"3. Verify it, layer by layer, on {_IMAGES:,} images")
    taken = batch(source, None, _IMAGES)
    report = deploy.verify(source.model, out, taken.x)
    show(str(report), "4. Compare")
    compared = _compare(source, recipe, out)
    show(_table(compared, packed), "5. Time it beside its float twin, one image, one thread")
    times = compare(out, rounds=7)
    show(*bench.tables(times))
    document = {
        "recipe": name,
        "train": train.to_dict(result, folder),
        "pack": packed,
        "verify": verify.to_dict(report, out, taken.what),
        "compare": compared,
        "bench": dataclasses.asdict(times),
    }
    end = f"packed file: {out}\nrun it without PyTorch: coarsegrad predict {out} X.npy"
    return Answer(document, (end,))


def _demo_recipe() -> tuple[str, str]:
    """Return the recipe that the data at hand allow, and a line that says so."""
    from coarsegrad import data
    from coarsegrad.errors import MissingDataError

    try:
        data.mnist("train", download=False)
        data.mnist("test", download=False)
    except MissingDataError:
        return "digits_small_cnn", (
            "MNIST is not at hand (set COARSEGRAD_DATA, or run `coarsegrad train "
            "mnist_small_cnn` to download it);\nusing scikit-learn's 1,797 digits, enlarged: "
            "not MNIST, and not comparable with it."
        )
    return "mnist_small_cnn", "Data: MNIST."


def _clear(folder: Path, recipe: Recipe) -> None:
    """Remove an earlier demo's files from its folder; refuse a folder that holds anything else."""
    from coarsegrad.train import read_recipe

    if not folder.exists():
        return
    ours = ("recipe.yaml", "last.ckpt", "metrics.csv", "model.cgrad", "tensorboard")
    others = sorted(file.name for file in folder.iterdir() if file.name not in ours)
    before = folder / "recipe.yaml"
    if others or not before.is_file() or read_recipe(before) != recipe:
        raise typer.BadParameter(
            f"{folder} exists and is not an earlier demo's; choose another folder with --run"
        )
    for name in ours:
        place = folder / name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def _compare(source: Source, recipe: Recipe, out: Path) -> dict[str, Any]:
    """Return the accuracy of the torch model and of the packed file on all evaluation images."""
    import torch

    from coarsegrad import runtime
    from coarsegrad.data import pixels
    from coarsegrad.train.build import build_task

    task = build_task(recipe)
    x, y = pixels(task.evaluation.x), task.evaluation.y
    with torch.no_grad():
        logits = torch.cat([source.model(part) for part in torch.split(torch.from_numpy(x), 500)])
    return {
        "model": recipe.model,
        "data": task.train.name,
        "images": len(x),
        "measured_on": task.measured_on,
        "torch_accuracy": (logits.argmax(1).numpy() == y).mean(),
        "packed_accuracy": (runtime.load(out)(x).argmax(1) == y).mean(),
    }


def _table(compared: dict[str, Any], packed: dict[str, Any]) -> Any:
    from rich.table import Table

    title = (
        f"{compared['model']} on {compared['data']}, "
        f"{compared['images']:,} {compared['measured_on']} images"
    )
    table = Table(title=title)
    for column in ("", "accuracy", "bytes"):
        table.add_column(column, justify="left" if not column else "right")
    size, floats = packed["bytes"], packed["float_bytes"]
    table.add_row("torch, float32 parameters", f"{compared['torch_accuracy']:.2%}", f"{floats:,}")
    table.add_row("packed, without torch", f"{compared['packed_accuracy']:.2%}", f"{size:,}")
    table.add_row("ratio", "", f"{floats / size:.1f}x")
    return table
