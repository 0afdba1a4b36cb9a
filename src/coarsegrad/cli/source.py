"""SOURCE: a run folder, a packed file or a user's function, resolved in one place for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coarsegrad.cli.completion import recipe_names, run_folders
from coarsegrad.errors import SourceError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from coarsegrad.train import Recipe

Kind = Literal["run", "packed", "function"]


@dataclass(frozen=True)
class Source:
    """A torch model and what is known of it.

    Attributes:
        name: SOURCE as it was typed.
        model: in evaluation mode, on the CPU.
        example: a batch that the model takes, float32 (N, ...), N at least 1.
        recipe: of a run; None for a function.
    """

    name: str
    model: nn.Module
    example: Tensor
    recipe: Recipe | None


@dataclass(frozen=True)
class Samples:
    """A batch for a SOURCE.

    Attributes:
        x: float32 (N, ...).
        what: the words that an answer carries.
        real: whether they are data, rather than random numbers.
    """

    x: Tensor
    what: str
    real: bool = True


def kind_of(name: str) -> Kind:
    """Return which of the three SOURCE is, by its looks and by what is there.

    Raises:
        SourceError: it is none of them; the message says what comes nearest.

    >>> kind_of("nets:make"), kind_of("net.cgrad")
    ('function', 'packed')
    """
    path = Path(name)
    if path.is_dir():
        return "run"
    if path.suffix == ".cgrad":
        return "packed"
    if ":" in name and not path.exists():
        return "function"
    if path.is_file():
        advice = (
            f"a model's weights need its function: package.module:function --weights {name}"
            if path.suffix in (".pt", ".pth", ".ckpt")
            else "a packed file's name ends in .cgrad"
        )
        raise SourceError(
            f"{name} is a file, but neither a run folder nor a packed file nor "
            f"package.module:function; {advice}"
        )
    raise SourceError(_nowhere(name))


def _nowhere(name: str) -> str:
    said = f"there is no run folder {name!r}."
    if hint := nearest(name, run_folders()):
        return said + hint
    if name in recipe_names():
        return f"{said} It is a recipe; make the run first: coarsegrad train {name}"
    is_module = Path(f"{name.replace('.', '/')}.py").is_file()
    if is_module or ("." in name and "/" not in name):
        return f"{said} A model of your own needs the function's name too: {name}:FUNCTION"
    return (
        f"{said} SOURCE is a run folder (make one with: coarsegrad train RECIPE), a .cgrad file, "
        "or package.module:function"
    )


def resolve(
    name: str,
    *,
    weights: Path | None = None,
    shape: str | None = None,
    averaged: bool = False,
) -> Source:
    """Return the torch model that SOURCE names.

    Args:
        name: a run folder, or package.module:function.
        weights: a function's weights; None leaves them as the function gives them.
        shape: one sample's shape for a function that returns no example, as ``"1,28,28"``.
        averaged: a run's model at its averaged latent weights.

    Raises:
        SourceError: a packed file, an option that does not go with this kind of SOURCE, or a
            function, weights or a shape that do not work.
        TrainError: a run folder without a run.
    """
    kind = kind_of(name)
    if kind == "packed":
        raise SourceError(
            f"{name} is a packed file, which holds no torch model; give the run folder or the "
            "package.module:function that it was packed from"
        )
    if kind == "function":
        if averaged:
            raise SourceError(f"--averaged is for run folders; {name} is a function")
        return _function(name, weights, shape)
    for option, value in (("--weights", weights), ("--input", shape)):
        if value is not None:
            raise SourceError(
                f"{option} is for package.module:function; {name} is a run folder, which has its "
                f"own; leave {option} out"
            )
    return _run(name, averaged)


def user_model(name: str, weights: Path | None) -> tuple[nn.Module, Tensor | None]:
    """Return the model of package.module:function with its weights, and its example if any.

    Raises:
        SourceError: the function or the weights do not work.
    """
    from coarsegrad.cli.function import build
    from coarsegrad.cli.weights import load_weights
    from coarsegrad.errors import require

    require("torch", "train", f"the torch model of {name}")
    model, given = build(name)
    model = model.cpu().eval()
    if weights is not None:
        load_weights(model, weights, name)
    return model, given


def _function(name: str, weights: Path | None, shape: str | None) -> Source:
    from coarsegrad.cli.function import example_of, try_out

    model, given = user_model(name, weights)
    example = example_of(name, given, shape)
    try_out(name, model, example)
    return Source(name, model, example, None)


def _run(name: str, averaged: bool) -> Source:
    from coarsegrad.errors import require

    torch = require("torch", "train", f"the run in {name}")
    require("lightning", "train", f"the run in {name}")
    from coarsegrad.train import input_shape, load_run

    recipe, net = load_run(name, averaged=averaged)
    return Source(name, net, torch.zeros(1, *input_shape(recipe)), recipe)


def needs_weights(name: str, weights: Path | None, as_built: bool, command: str) -> None:
    """Refuse a function without trained weights where untrained ones are surely a mistake."""
    if kind_of(name) == "function" and weights is None and not as_built:
        raise SourceError(
            f"{command} needs the trained weights of {name}: give --weights FILE.pt, as "
            "torch.save(net.state_dict(), 'FILE.pt') wrote them, or --as-built if the function "
            "loads them itself"
        )


def batch(source: Source, file: Path | None, count: int) -> Samples:
    """Return at most ``count`` samples for a SOURCE.

    A file's; else a run's evaluation images; else the function's own example, if it is more than
    one sample; else random normal numbers.

    Raises:
        SourceError: the file's samples do not fit the model.
        DataError: a run's data set is missing.
    """
    import torch

    from coarsegrad.cli.paths import samples

    if file is not None:
        x = samples(file, tuple(source.example.shape[1:]), source.name)[:count]
        return Samples(torch.from_numpy(x), f"{len(x):,} samples of {file}")
    if source.recipe is not None:
        from coarsegrad.data import pixels
        from coarsegrad.train.build import build_task

        task = build_task(source.recipe)
        x = pixels(task.evaluation.x[:count])
        what = f"{len(x):,} {task.measured_on} images of {task.train.name}"
        return Samples(torch.from_numpy(x), what)
    if len(source.example) > 1:
        taken = source.example[:count]
        return Samples(taken, f"{len(taken):,} samples that {source.name} returns")
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn((count, *source.example.shape[1:]), generator=random)
    what = f"{count:,} random normal samples, not real data; give your own with --batch X.npy"
    return Samples(drawn, what, real=False)
