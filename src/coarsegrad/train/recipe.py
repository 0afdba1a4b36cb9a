"""The recipe: everything that decides a training run, in one frozen dataclass read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field

from coarsegrad.errors import RecipeError, nearest
from coarsegrad.train import shapes

DataName = Literal["mnist", "digits", "cifar10"]
ModelName = Literal[
    "small_cnn", "mlp", "lenet5", "binarized_lenet5", "vgg_small", "cnn7", "vgg11", "resnet20",
]  # fmt: skip
SteName = Literal[
    "identity", "clipped_identity", "triangle", "swish_sign", "relu", "clipped_relu", "sigmoid",
    "reverse_exp", "log_tailed",
]  # fmt: skip
Layout = Literal["6-16-120-84", "20-50-500"]
Augmentation = Literal["none", "crop_flip"]
CStarName = Literal["relative", "grad", "constant", "literal"]
RuleName = Literal[
    "bamsprod", "adabound", "amsbound", "clipped_sgd", "normalized_sgd", "adam", "amsgrad", "sgdm"
]
FlipName = Literal["bop", "bop2ndorder"]
_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Beta = Annotated[float, Field(ge=0, lt=1)]
_Count = Annotated[int, Field(ge=1)]
_Precision = Annotated[str, Field(pattern="^W([1-8]|32)A([1-8]|32)$")]


@pydantic.dataclasses.dataclass(
    frozen=True, config=pydantic.ConfigDict(extra="forbid", strict=True)
)
class Recipe:
    """What to train, on what, and how; a YAML file holds only what differs from the defaults.

    Attributes:
        data: data set.
        augment: ``crop_flip`` shifts and mirrors each training image anew in each epoch.
        model: architecture, a function of ``coarsegrad.models``; it has to take the data's shape.
        width: of models that take one, all but ``small_cnn`` and ``lenet5``; None is the model's
            own.
        precision: of models that take one, bits of weights and activations such as ``W1A2``, 1 to 8
            or 32 for float; None is the model's own. W32 has no latent weights: everything is
            trained by ``optimizer_real``.
        layout: widths of ``lenet5``; None is 6-16-120-84.
        float_ends: of models that take it, ``lenet5`` and ``vgg_small``: float weights in the first
            layer and the last; None is the model's own.
        norm: of ``binarized_lenet5``, whether batch norm stands before its activations; None is
            the model's own.
        twin: train the model's float twin instead, with ``optimizer_real`` and ``lr_real``;
            options of binary networks are refused then.
        ste: coarse derivative of the activations; None is the model's own, hard tanh for signs and
            the ReLU for quantized ReLUs.
        epochs: passes over the training images.
        batch_size: images in a step; a last batch that is not full is left out.
        optimizer: rule of the latent binary weights, kept in [-1, 1] by all of them; ``bop`` and
            ``bop2ndorder`` flip weights that are binary from the start.
        options: more arguments of this rule, by name.
        optimizer_real: rule of everything else; ``bamsprod`` is AMSGrad there.
        lr_binary: learning rate of the latent binary weights; for ``bop`` and ``bop2ndorder`` it
            multiplies gamma.
        lr_real: learning rate of everything else, batch norm above all.
        beta1: decay of the first moment, or the momentum, of both rules; Bop has none.
        beta2: decay of the second moment.
        cstar: limit of BAMSProd's bounds.
        weight_decay: of ``optimizer_real``: added to the gradient by torch's rules (``sgdm``,
            ``adam``, ``amsgrad``), decoupled in coarsegrad's. That of latent weights is one of
            ``options``.
        scale: s of the CosFace loss, which trains models that give cosines, ``cnn7``; None is 30.
            The others are trained by cross entropy.
        margin: its m; None is 0.1.
        schedule: learning rate over the run; ``cosine`` falls to 0 at its end, ``steps``
            multiplies by ``gamma`` at each milestone.
        milestones: epochs after which ``steps`` multiplies, rising.
        gamma: what ``steps`` multiplies by.
        seed: of the initial weights and of every batch.
        validation: training images held out, the last ones; the run is then measured on them and
            never sees the test images. 0 trains on all and measures on the test images, once.
        evaluations: times in an epoch that held-out images are looked at.
        start: a run folder, or None: the weights that it ended with are the initial ones; the
            model must be the same.
        rvs: options of ``optim.RVS``, which then splits the variables of both rules; ``warmup`` and
            ``every`` count epochs here. Every evaluation measures the sparse twin u too, with batch
            norm's statistics estimated anew. Without options, nothing is split.
        average: decay of an EMA of the latent weights; every evaluation then measures the signs of
            the EMA too, with batch norm's statistics estimated anew. None keeps no EMA.
        average_images: training images for such statistics, without augmentation.
        diagnostics: log what each tenth step did to the latent weights, per layer and in total.
        smoothness: steps between two that are measured, along which the smoothness of the loss on
            the first 1,000 training images goes into ``smoothness.csv``, see ``Smoothness``. None
            measures none.
        limit: train on the first so many images only; None is all.
        checkpoint_every: steps between two checkpoints.

    Raises:
        pydantic.ValidationError: a value outside its range, or without effect, or a model that
            does not take the data; ``make_recipe`` and ``read_recipe`` turn it into a RecipeError.
    """

    data: DataName = "mnist"
    augment: Augmentation = "none"
    model: ModelName = "small_cnn"
    width: _Count | None = None
    precision: _Precision | None = None
    layout: Layout | None = None
    float_ends: bool | None = None
    norm: bool | None = None
    twin: bool = False
    ste: SteName | None = None
    epochs: _Count = 6
    batch_size: _Count = 64
    optimizer: RuleName | FlipName = "bamsprod"
    options: dict[str, float | int | bool | str | list[float | str] | None] = Field(
        default_factory=dict
    )
    optimizer_real: RuleName = "bamsprod"
    lr_binary: _Rate = 1e-2
    lr_real: _Rate = 1e-2
    beta1: _Beta = 0.9
    beta2: _Beta = 0.999
    cstar: CStarName = "relative"
    weight_decay: _Rate = 0.0
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    margin: _Beta | None = None
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    milestones: list[_Count] = Field(default_factory=list)
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    validation: Annotated[int, Field(ge=0)] = 0
    evaluations: _Count = 1
    start: str | None = None
    rvs: dict[str, float | int | bool | str | None] = Field(default_factory=dict)
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    average_images: Annotated[int, Field(ge=2)] = 2000
    diagnostics: bool = False
    smoothness: _Count | None = None
    limit: _Count | None = None
    checkpoint_every: _Count = 200

    def __post_init__(self) -> None:
        shapes.check(self)

    def to_yaml(self) -> str:
        """Return every value, defaults included, as YAML.

        >>> "epochs: 2" in Recipe(epochs=2).to_yaml().splitlines()
        True
        """
        text: str = yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)
        return text


def make_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Return the recipe with these values; ``source`` names them in messages.

    Raises:
        RecipeError: an unknown key, with the nearest valid one, a value out of range or without
            effect, or a model that does not take the data.

    >>> make_recipe({"epochs": 3}, "an example").epochs
    3
    """
    allowed = [field.name for field in dataclasses.fields(Recipe)]
    for key in values:
        if key not in allowed:
            raise RecipeError(
                f"{source} has an unknown key {key!r}.{nearest(str(key), allowed)} "
                f"Allowed: {', '.join(allowed)}"
            )
    try:
        return Recipe(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise RecipeError(f"{source}: {first['ctx']['error']}") from None
        place = ".".join(map(str, first["loc"])) or "a value"
        raise RecipeError(
            f"{source}: {place} is {first['input']!r}; {first['msg'].lower()}"
        ) from None


def read_recipe(path: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe file, with some values changed.

    Raises:
        RecipeError: the file is missing, not YAML, or has unknown keys or illegal values.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path} needs lines of 'key: value', got {type(values).__name__}; "
            f"keys: {', '.join(field.name for field in dataclasses.fields(Recipe))}"
        )
    return make_recipe({**values, **(changes or {})}, str(path))


def recipe_path(name: str) -> Path:
    """Return the file of a recipe: a path as it is, a bare name from the package's recipes.

    Raises:
        RecipeError: neither exists; the message lists the names.
    """
    given = Path(name)
    if given.is_file():
        return given
    folders = [
        folder
        for folder in (Path(__file__).parents[1] / "recipes", Path(__file__).parents[3] / "recipes")
        if folder.is_dir()
    ]
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise RecipeError(
        f"there is no recipe file {name!r} and no recipe of that name.{nearest(name, names)} "
        f"Recipes: {', '.join(names) or 'none'}"
    )
