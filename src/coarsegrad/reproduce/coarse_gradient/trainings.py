"""The trainings of section 8: which there are, one of them, and the tables they leave.

Each run is a shipped recipe with changes, or the float twin of one: ``mnist_lenet5_w32a2`` and
``mnist_lenet5_w32a4`` in two layouts, ``cifar10_vgg11_w32a4_cpu`` and
``cifar10_resnet20_w32a4_cpu``. One thread each: a run's numbers are a function of its row. Finished
runs are skipped, a run that was stopped goes on from its last checkpoint.

Several processes share the work by ``--only``, each with an ``--out`` of its own. To report on all
of it, copy their tables beside another's as ``trainings-NAME.csv`` and ``norms-NAME.csv``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, final

from coarsegrad.reproduce.ledger import Ledger
from coarsegrad.reproduce.report import Request
from coarsegrad.reproduce.threads import one_thread
from coarsegrad.reproduce.training import epochs_shown, run_folder

if TYPE_CHECKING:
    from coarsegrad.train import Recipe

LAYOUTS = ("20-50-500", "6-16-120-84")
"""Of LeNet-5 on MNIST."""
CIFAR = ("vgg11", "resnet20")
"""Networks on CIFAR-10, in the place of a layout: 4 bits, with the coarse derivative of a ReLU."""
PRECISIONS = ("float", "W32A2", "W32A4")
STES = ("relu", "reverse_exp", "log_tailed")
SEEDS = 3
FILTERS: dict[str, tuple[str, ...] | None] = {
    "layout": LAYOUTS, "precision": PRECISIONS, "ste": ("none", *STES), "seed": None,
}  # fmt: skip
"""Keys of ``Request.only``; a float network has the ste ``none``."""
FILTERS_OF_ALL = {**FILTERS, "layout": (*LAYOUTS, *CIFAR)}

_RUN = ("layout", "precision", "ste", "seed", "weight_decay")
_SETTINGS = ("epochs", "images", "lr_real")
_QUICK = {"epochs": 1, "limit": 2_000}
_IMAGES = {"mnist": 60_000, "cifar10": 50_000}


@final
@dataclass(frozen=True)
class Run:
    """One training, by the columns that are its key; without a weight decay, the recipe's."""

    layout: str
    precision: str
    ste: str
    seed: int
    decay: float | None = None

    def recipe(self, *, quick: bool) -> Recipe:
        """Return what it trains."""
        from coarsegrad.train import read_recipe, recipe_path

        changes: dict[str, Any] = {"seed": self.seed}
        if self.layout in CIFAR:
            path = recipe_path(f"cifar10_{self.layout}_w32a4_cpu")
        else:
            bits = "w32a2" if self.precision == "float" else self.precision.lower()
            path = recipe_path(f"mnist_lenet5_{bits}")
            changes["layout"] = self.layout
        float_twin = self.precision == "float"
        changes |= {"twin": True, "ste": None} if float_twin else {"ste": self.ste}
        if self.decay is not None:
            changes["weight_decay"] = self.decay
        return read_recipe(path, {**changes, **(_QUICK if quick else {})})

    def __str__(self) -> str:
        decay = "" if self.decay is None else f" weight decay {self.decay:g}"
        return f"{self.layout} {self.precision} {self.ste} seed {self.seed}{decay}"

    def key(self, *, quick: bool) -> dict[str, Any]:
        """Return the columns by which the tables know it."""
        return {
            "layout": self.layout, "precision": self.precision, "ste": self.ste, "seed": self.seed,
            "weight_decay": self.recipe(quick=quick).weight_decay,
        }  # fmt: skip


def runs(
    request: Request, seeds: int, decay: float | None = None, layouts: tuple[str, ...] = LAYOUTS
) -> list[Run]:
    """Return the runs that a request wants, float first, seed by seed."""
    every = [
        Run(layout, precision, ste, seed, decay)
        for seed, layout in product(range(seeds), layouts)
        for precision, ste in _variants(layout)
    ]
    return [one for one in every if request.wants(**{key: getattr(one, key) for key in FILTERS})]


def _variants(layout: str) -> list[tuple[str, str]]:
    if layout in CIFAR:
        return [("float", "none"), ("W32A4", "relu")]
    return [("float", "none"), *product(("W32A2", "W32A4"), STES)]


def tables(request: Request) -> tuple[Ledger, Ledger]:
    """Return the tables in the request's folder: one row a run, and one row an epoch of a run."""
    mark = "quick-" if request.quick else ""
    measured = (*_RUN, *_SETTINGS, "accuracy", "seconds")
    return (
        Ledger(request.out / f"{mark}trainings.csv", measured, _RUN),
        Ledger(
            request.out / f"{mark}norms.csv",
            (*_RUN, "epoch", "norm"),
            (*_RUN, "epoch"),
        ),
    )


def finish(request: Request, wanted: Iterable[Run]) -> tuple[Ledger, Ledger]:
    """Train what the tables do not have yet; return the tables.

    Raises:
        DataError: MNIST or CIFAR-10 is missing or damaged, or a table has other columns.
        TrainError: the loss became non-finite.
    """
    done, norms = tables(request)
    left = [one for one in wanted if finished(done, one, quick=request.quick) is None]
    for number, one in enumerate(left, 1):
        request.show(f"  run {number} of {len(left)}: {one}")
        row, epochs = _train(request, one)
        norms.add(epochs)  # before the row that says that the run is done
        done.add([row])
        request.show(f"    test accuracy {100 * row['accuracy']:.2f} %, {row['seconds']:.0f} s")
    return done, norms


def finished(done: Ledger, one: Run, *, quick: bool) -> dict[str, str] | None:
    """Return the table's row of this run, if there is one with the settings of today."""
    row = done.find(**one.key(quick=quick))
    today = {key: str(value) for key, value in _settings(one.recipe(quick=quick)).items()}
    if row is None or any(row[key] != value for key, value in today.items()):
        return None
    return row


def run_of(row: Mapping[str, str], decay: float | None = None) -> Run:
    """Return the run of a row of either table, with a weight decay that is not the recipe's."""
    return Run(row["layout"], row["precision"], row["ste"], int(row["seed"]), decay)


def _settings(recipe: Recipe) -> dict[str, Any]:
    return {
        "epochs": recipe.epochs,
        "images": recipe.limit or _IMAGES[recipe.data],
        "lr_real": recipe.lr_real,
    }


def _train(request: Request, one: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from coarsegrad.reproduce.weight_norms import WeightNorms
    from coarsegrad.train import train

    recipe = one.recipe(quick=request.quick)
    folder = run_folder(request, str(one), recipe)
    watch = WeightNorms()
    with one_thread():
        result = train(
            recipe,
            folder,
            resume=(folder / "last.ckpt").exists(),
            show=epochs_shown(request, recipe),
            callbacks=[watch],
        )
    key = one.key(quick=request.quick)
    row = {**key, **_settings(recipe), "accuracy": round(result.accuracy, 6),
           "seconds": round(result.seconds, 1)}  # fmt: skip
    return row, [
        {**key, "epoch": epoch, "norm": round(norm, 6)} for epoch, norm in enumerate(watch.norms)
    ]
