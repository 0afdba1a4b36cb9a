"""The command line: thin, and quick to say --help, since every command imports what it needs.

Exit codes: 0 done, 1 an error that its message explains, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from coarsegrad.bench import Comparison
    from coarsegrad.train import Recipe, Result

app = typer.Typer(
    name="coarsegrad",
    help="Train binary neural networks; ship them as packed bits that run without PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunFolder = Annotated[
    Path, typer.Argument(help="A run folder, made by `coarsegrad train`.", metavar="RUN")
]


Averaged = Annotated[
    bool, typer.Option("--averaged", help="The model at its averaged latent weights.")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe: a YAML file or a bundled name.")],
    folder: Annotated[
        Path | None, typer.Option("--run", help="The run folder [default: runs/RECIPE].")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train seeds 0 to N-1, report mean and spread.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from last.ckpt.")] = False,
) -> None:
    """Train a recipe into a run folder."""
    from coarsegrad.train import read_recipe, recipe_path

    changes = _changes(change or [])
    path = recipe_path(recipe)
    folder = Path(os.path.normpath(folder or Path("runs") / path.stem))
    if seeds is not None and "seed" in changes:
        raise typer.BadParameter("--seeds and --set seed=... exclude each other")
    if seeds is None:
        result = _train(read_recipe(path, changes), folder, resume=resume)
        _print_result(result)
        print(f"run folder: {folder}; next: coarsegrad pack {folder}")
        return
    results = []
    for seed in range(seeds):
        place = folder.parent / f"{folder.absolute().name}-seed{seed}"
        print(f"seed {seed}: {place}")
        results.append(
            _train(
                read_recipe(path, {**changes, "seed": seed}),
                place,
                resume=resume and (place / "last.ckpt").exists(),
            )
        )
    _print_seeds(results)


@app.command()
def pack(
    run: RunFolder,
    out: Annotated[
        Path | None, typer.Option(help="The packed file [default: RUN/model.cgrad].")
    ] = None,
    averaged: Averaged = False,
) -> None:
    """Write a run's model as a packed file."""
    out = out or run / "model.cgrad"
    _, net = _load(run, averaged=averaged)
    size, floats = _pack(net, out)
    print(f"{out}: {size:,} bytes; the float32 parameters take {floats:,}, {floats / size:.1f}x")


@app.command()
def verify(
    run: RunFolder,
    file: Annotated[
        Path | None, typer.Option(help="The packed file [default: RUN/model.cgrad].")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images to compare layer by layer.")] = 1000,
    averaged: Averaged = False,
) -> None:
    """Prove, layer by layer, that the packed file computes what the torch model computes."""
    import torch

    from coarsegrad import deploy
    from coarsegrad.data import pixels
    from coarsegrad.train.build import build_task

    recipe, net = _load(run, averaged=averaged)
    evaluation = build_task(recipe).evaluation
    x = torch.from_numpy(pixels(evaluation.x[:images]))
    print(deploy.verify(net, file or run / "model.cgrad", x))


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="A packed file.", metavar="FILE")],
    x: Annotated[Path, typer.Argument(help="float32 samples, (N, ...), as numpy.save wrote them.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the results, float32 (N, ...), as .npy.")
    ] = None,
) -> None:
    """Run a packed file on samples; print the class of each, one a line. Needs no PyTorch."""
    import numpy as np

    from coarsegrad import runtime
    from coarsegrad.files import replacing

    model = runtime.load(file)
    y = model(_load_array(x))
    if out is not None:
        with replacing(out) as temporary, temporary.open("wb") as target:
            np.save(target, y)
    for row in y:
        print(row.argmax())


@app.command()
def bench(
    file: Annotated[
        Path, typer.Argument(help="A packed file, or a run folder.", metavar="FILE_OR_RUN")
    ],
    batch: Annotated[int, typer.Option(min=1, help="Samples in a call.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Cores for every contestant.")] = 1,
    target: Annotated[str | None, typer.Option(help="A name from runtime.targets().")] = None,
    peers: Annotated[
        bool, typer.Option(help="Time the float twin in torch and ONNX Runtime too.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time a packed file, per stage and whole, beside its float twin."""
    import dataclasses
    import json

    from coarsegrad.bench import compare

    path = file / "model.cgrad" if file.is_dir() else file
    found = compare(path, batch=batch, threads=threads, target=target, peers=peers)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _print_bench(found)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--run", help="The run folder.")] = Path("runs/demo"),
) -> None:
    """Train a binary network on digits, pack it, prove it, compare sizes. A few minutes."""
    from coarsegrad.bench import compare
    from coarsegrad.train import read_recipe, recipe_path

    name, note = _demo_recipe()
    recipe = read_recipe(recipe_path(name))
    _clear_demo(folder, recipe)
    print(f"{note}\n1. Train {recipe.model} with BAMSProd, {recipe.epochs} epochs")
    result = _train(recipe, folder)
    _, net = _load(folder)
    out = folder / "model.cgrad"
    print("2. Pack it")
    size, floats = _pack(net, out)
    print("3. Verify it, layer by layer, on 1,000 images")
    verify(folder, None, 1000)
    print("4. Compare")
    _print_comparison(recipe, net, out, result, (size, floats))
    print("5. Time it beside its float twin, one image at a time, one thread")
    _print_bench(compare(out, rounds=7))
    print(f"packed file: {out}\nrun it without PyTorch: coarsegrad predict {out} X.npy")


def main() -> None:
    """Run the command line; errors of coarsegrad become one line and exit code 1."""
    from coarsegrad.errors import CoarsegradError

    try:
        app()
    except (CoarsegradError, OSError, MemoryError) as error:
        print(f"error: {error or 'out of memory'}", file=sys.stderr)
        sys.exit(1)


def _clear_demo(folder: Path, recipe: Recipe) -> None:
    """Remove an earlier demo's files from its folder; refuse a folder that holds anything else."""
    import shutil

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


def _print_bench(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    machine = found.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    print(
        f"{found.file}: batch {found.batch}, threads {found.threads}, target {found.target}, "
        f"load in {found.load_seconds * 1e3:.1f} ms\n{machine.cpu}, {machine.cores} cores, "
        f"load {machine.load:.1f}\n{versions}"
    )
    table = Table("", "us per call", "us per sample", "times ours")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.contestants:
        per_call = row.seconds * 1e6
        per_sample = per_call / found.batch
        table.add_row(row.name, f"{per_call:.1f}", f"{per_sample:.2f}", f"{row.ratio:.1f}x")
    Console().print(table)
    if found.stages:
        stages = Table(f"stage, {found.chunk} samples", "us, least of 100")
        stages.columns[1].justify = "right"
        for stage in found.stages:
            stages.add_row(stage.name, f"{stage.microseconds:.2f}")
        Console().print(stages)


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


def _train(recipe: Recipe, folder: Path, *, resume: bool = False) -> Result:
    from coarsegrad.train import train

    def show(row: dict[str, float]) -> None:
        held_out = row.get("validation_accuracy")
        end = "" if held_out is None else f", validation accuracy {held_out:.2%}"
        if "averaged_accuracy" in row:
            end += f" ({row['averaged_accuracy']:.2%} averaged)"
        print(
            f"  epoch {row['epoch']:.0f}/{recipe.epochs}: loss {row['train_loss']:.4f}, "
            f"training accuracy {row['train_accuracy']:.2%}{end}",
            flush=True,
        )

    try:
        return train(recipe, folder, resume=resume, show=show, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        saved = (folder / "last.ckpt").is_file()
        advice = "; go on with the same command and --resume" if saved else ""
        print(f"interrupted{advice}", file=sys.stderr)
        raise typer.Exit(130) from None


def _load(run: Path, *, averaged: bool = False) -> tuple[Recipe, nn.Module]:
    from coarsegrad.errors import require

    require("torch", "train", "working on a run folder")
    require("lightning", "train", "working on a run folder")
    from coarsegrad.train import load_run

    return load_run(run, averaged=averaged)


def _pack(net: nn.Module, out: Path) -> tuple[int, int]:
    """Pack; return the file's bytes and those of the float32 parameters."""
    import torch

    from coarsegrad import deploy

    deploy.pack(net, torch.zeros(1, 1, 28, 28), out)
    return out.stat().st_size, sum(4 * parameter.numel() for parameter in net.parameters())


def _load_array(path: Path) -> NDArray[np.float32]:
    import numpy as np

    from coarsegrad.errors import InputError

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise InputError(f"{path} is not an array that numpy.save wrote ({error})") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays (.npz); give one .npy array")
    return array


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


def _print_result(result: Result) -> None:
    averaged = result.averaged_accuracy
    beside = "" if averaged is None else f" ({averaged:.2%} at averaged latents)"
    print(
        f"{result.measured_on} accuracy {result.accuracy:.2%}{beside} on "
        f"{result.images:,} images of {result.data}, last epoch, {result.seconds:.0f} s"
    )


def _print_seeds(results: list[Result]) -> None:
    import statistics

    measured = {"": [100 * result.accuracy for result in results]}
    averaged = [r.averaged_accuracy for r in results if r.averaged_accuracy is not None]
    if averaged:
        measured[" at averaged latents"] = [100 * accuracy for accuracy in averaged]
    for where, values in measured.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{results[0].data}, {results[0].measured_on} accuracy of the last epoch{where}, "
            f"{len(values)} seeds: mean {statistics.mean(values):.2f} % (sd {spread:.2f}, "
            f"lowest {min(values):.2f}, highest {max(values):.2f}); "
            + ", ".join(f"{value:.2f}" for value in values)
        )


def _print_comparison(
    recipe: Recipe, net: nn.Module, out: Path, result: Result, sizes: tuple[int, int]
) -> None:
    import torch
    from rich.console import Console
    from rich.table import Table

    from coarsegrad import runtime
    from coarsegrad.data import pixels
    from coarsegrad.train.build import build_task

    evaluation = build_task(recipe).evaluation
    x = pixels(evaluation.x)
    with torch.no_grad():
        logits = torch.cat([net(part) for part in torch.split(torch.from_numpy(x), 500)])
    in_torch = (logits.argmax(1).numpy() == evaluation.y).mean()
    packed = (runtime.load(out)(x).argmax(1) == evaluation.y).mean()
    size, floats = sizes
    table = Table(title=f"{recipe.model} on {result.data}, {len(x):,} {result.measured_on} images")
    for column in ("", "accuracy", "bytes"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("torch, float32 parameters", f"{in_torch:.2%}", f"{floats:,}")
    table.add_row("packed, without torch", f"{packed:.2%}", f"{size:,}")
    table.add_row("ratio", "", f"{floats / size:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
