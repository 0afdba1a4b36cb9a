"""LeNet-5 with binarized ReLUs on MNIST: which trainings there are, and one of them.

``base`` is trained from scratch, with batch norm and without; everything else goes on from the base
of its seed for as many epochs again. One thread each. Finished runs are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from coarsegrad.reproduce.ledger import Ledger
from coarsegrad.reproduce.report import Request
from coarsegrad.reproduce.threads import one_thread
from coarsegrad.reproduce.training import epochs_shown, run_folder

if TYPE_CHECKING:
    from torch import nn

    from coarsegrad.train import Recipe

BASE = "mnist_binarized_lenet5"
SPLIT = "mnist_binarized_lenet5_rvscgd"

# lambda and beta of each penalty, chosen on held-out training images (make tune-rvscgd).
SPLITTINGS = {
    "l0": {"lam": 0.0125, "beta": 10.0},
    "l1": {"lam": 0.009, "beta": 0.2},
    "transformed_l1": {"lam": 0.006, "beta": 0.3},
}
METHODS = ("base", "no norm", "dense", *SPLITTINGS, "magnitude")
"""``dense`` trains the base on, ``magnitude`` prunes it gradually: the two controls."""

MAGNITUDE: dict[str, Any] = {"sparsity": 0.85, "until": 1.0}
"""The share that gradual magnitude pruning zeros, and the part of the epochs in which it does."""

SEEDS = 3
FILTERS: dict[str, tuple[str, ...] | None] = {"method": METHODS, "seed": None}
"""Keys of ``Request.only``; what a run starts from is trained in any case."""

_KEY = ("method", "seed")
COLUMNS = (
    *_KEY, "epochs", "images", "accuracy_w", "accuracy", "sparsity", "zeros_by_layer", "seconds",
)  # fmt: skip
_QUICK = {"epochs": 1, "limit": 2_000}


@final
@dataclass(frozen=True)
class Run:
    """One training, by the columns that are its key."""

    method: str
    seed: int

    def recipe(self, *, quick: bool, start: Path | None) -> Recipe:
        """Return what it trains, from the run folder ``start`` on unless it is None."""
        from coarsegrad.train import read_recipe, recipe_path

        changes: dict[str, Any] = {"seed": self.seed, **(_QUICK if quick else {})}
        if self.method in SPLITTINGS:
            path = recipe_path(SPLIT)
            rvs = {**read_recipe(path).rvs, "penalty": self.method, **SPLITTINGS[self.method]}
            return read_recipe(path, {**changes, "rvs": rvs, "start": str(start)})
        if self.method == "no norm":
            changes["norm"] = False
        if start is not None:
            changes["start"] = str(start)
        return read_recipe(recipe_path(BASE), changes)

    def __str__(self) -> str:
        return f"{self.method} seed {self.seed}"


def table(request: Request) -> Ledger:
    """Return the table in the request's folder: one row a run."""
    return Ledger(request.out / f"{'quick-' if request.quick else ''}lenet.csv", COLUMNS, _KEY)


def finish(request: Request, wanted: list[Run]) -> Ledger:
    """Train what the table does not have yet; return the table.

    Raises:
        DataError: MNIST is missing or damaged, or the table has other columns.
        TrainError: the loss became non-finite.
    """
    done = table(request)
    # Bases first, those included that others start from.
    bases = [Run("base", one.seed) for one in wanted if one.method != "no norm"]
    wanted = list(dict.fromkeys([*bases, *wanted]))
    left = [one for one in wanted if done.find(method=one.method, seed=one.seed) is None]
    for number, one in enumerate(left, 1):
        request.show(f"  run {number} of {len(left)}: {one}")
        row = _train(request, one)
        done.add([row])
        request.show(
            f"    test accuracy {100 * row['accuracy']:.2f} %, {100 * row['sparsity']:.1f} % "
            f"zeros, {row['seconds']:.0f} s"
        )
    return done


def _train(request: Request, one: Run) -> dict[str, Any]:
    from coarsegrad.reproduce.rvscgd.magnitude import GradualPruning
    from coarsegrad.train import train

    start = None
    if one.method not in ("base", "no norm"):
        start = _folder(request, Run("base", one.seed), None)
    recipe = one.recipe(quick=request.quick, start=start)
    folder = _folder(request, one, start)
    with one_thread():
        result = train(
            recipe,
            folder,
            resume=(folder / "last.ckpt").exists(),
            show=epochs_shown(request, recipe),
            callbacks=[GradualPruning(**MAGNITUDE)] if one.method == "magnitude" else [],
        )
        net = network(folder, sparse=one.method in SPLITTINGS)
        accuracy, zeros = measured(net, quick=request.quick)
    counts = [(int((w == 0).sum()), w.numel()) for w in zeros]
    return {
        "method": one.method, "seed": one.seed, "epochs": recipe.epochs,
        "images": recipe.limit or 60_000, "accuracy_w": round(result.accuracy, 6),
        "accuracy": round(accuracy, 6),
        "sparsity": round(sum(z for z, _ in counts) / sum(n for _, n in counts), 6),
        "zeros_by_layer": " ".join(f"{z}/{n}" for z, n in counts),
        "seconds": round(result.seconds, 1),
    }  # fmt: skip


def network(folder: Path, *, sparse: bool) -> nn.Module:
    """Return a run's network, at u where ``sparse``, its batch norms estimated anew."""
    from coarsegrad.train import load_run
    from coarsegrad.train.build import build_task
    from coarsegrad.train.ema import estimate_statistics, statistics_batches

    recipe, net = load_run(folder, sparse=sparse)
    if not sparse:
        images = build_task(recipe).train
        estimate_statistics(net, statistics_batches(images, recipe.average_images, recipe.seed))
    return net


def measured(net: nn.Module, *, quick: bool) -> tuple[float, list[Any]]:
    """Return the accuracy on the test images, and the weights that are or may be pruned."""
    import torch

    from coarsegrad import data
    from coarsegrad.data import Batches
    from coarsegrad.reproduce.rvscgd.magnitude import prunable

    images = data.mnist("test").take(slice(0, 1_000 if quick else None))
    right = 0
    with torch.no_grad():
        for x, y in Batches(images.x, images.y, 500, seed=0, shuffle=False):
            right += int((net(x).argmax(1) == y).sum())
    return right / len(images), prunable(net)


def _folder(request: Request, one: Run, start: Path | None) -> Path:
    return run_folder(request, str(one), one.recipe(quick=request.quick, start=start))
