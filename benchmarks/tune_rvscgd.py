"""Choose how LeNet-5 with binarized ReLUs is pruned: `make tune-rvscgd`.

Six trials for each way of pruning, the last two of them chosen after the first four: 4 epochs from
one base on, measured on the last 10,000 training images, which the base has not seen either; the
test images are not touched. The best is the most accurate of those with at least 80 % of all
weights at 0. One thread, some 25 minutes of a quiet core. Finished trials are kept, so the command
resumes where it was stopped.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from coarsegrad.data import Batches
from coarsegrad.files import replacing
from coarsegrad.reproduce.rvscgd import lenet
from coarsegrad.reproduce.rvscgd.magnitude import GradualPruning, prunable
from coarsegrad.train import read_recipe, recipe_path, train
from coarsegrad.train.build import build_task

EPOCHS, HELD_OUT, SPARSE = 4, 10_000, 0.8
# l0 zeroes up to sqrt(2 lam / beta), 0.05 or 0.06 here; l1 up to lam / beta, 0.03 to 0.05;
# transformed l1 with a = 1 up to 2 lam / beta, 0.04 to 0.06.
TRIALS: dict[str, list[dict[str, float]]] = {
    "l0": [
        {"lam": 0.00125, "beta": 1.0}, {"lam": 0.00375, "beta": 3.0},
        {"lam": 0.0018, "beta": 1.0}, {"lam": 0.000375, "beta": 0.3},
        {"lam": 0.0054, "beta": 3.0}, {"lam": 0.0125, "beta": 10.0},
    ],
    "l1": [
        {"lam": 0.03, "beta": 1.0}, {"lam": 0.05, "beta": 1.0},
        {"lam": 0.009, "beta": 0.3}, {"lam": 0.015, "beta": 0.3},
        {"lam": 0.012, "beta": 0.3}, {"lam": 0.009, "beta": 0.2},
    ],
    "transformed_l1": [
        {"lam": 0.02, "beta": 1.0}, {"lam": 0.03, "beta": 1.0},
        {"lam": 0.006, "beta": 0.3}, {"lam": 0.009, "beta": 0.3},
        {"lam": 0.006, "beta": 0.2}, {"lam": 0.003, "beta": 0.1},
    ],
    "magnitude": [{"sparsity": 0.85, "until": until} for until in (0.25, 0.5, 0.75, 1.0, 0.1, 0.4)],
}  # fmt: skip
FOLDER = Path("runs/tune_rvscgd")
TABLE = Path("benchmarks/results/tune_rvscgd.csv")


def base() -> Path:
    """Train what every trial starts from; return its folder."""
    folder = FOLDER / "base"
    if not (folder / "metrics.csv").exists():
        changes = {"validation": HELD_OUT, "average_images": 2_000}
        train(read_recipe(recipe_path(lenet.BASE), changes), folder)
    return folder


def measure(method: str, trial: dict[str, float]) -> tuple[float, float]:
    """Return the accuracy on held-out images, and the share of zeros."""
    changes: dict[str, Any] = {
        "epochs": EPOCHS, "validation": HELD_OUT, "average_images": 2_000, "start": str(base()),
    }  # fmt: skip
    split = method != "magnitude"
    if split:
        changes["rvs"] = {"penalty": method, **trial, "warmup": EPOCHS / 2}
    recipe = read_recipe(recipe_path(lenet.SPLIT if split else lenet.BASE), changes)
    folder = FOLDER / "_".join([method, *(f"{key}{value:g}" for key, value in trial.items())])
    callbacks = [] if split else [GradualPruning(**trial)]
    train(recipe, folder, resume=(folder / "last.ckpt").exists(), callbacks=callbacks)
    net = lenet.network(folder, sparse=split)
    images = build_task(recipe).evaluation
    weights = prunable(net)
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    with torch.no_grad():
        batches = Batches(images.x, images.y, 500, seed=0, shuffle=False)
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches)
    return right / len(images), zeros


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for method, trials in TRIALS.items():
        found = []
        for trial in trials:
            accuracy, zeros = measure(method, trial)
            text = " ".join(f"{key}={value:g}" for key, value in trial.items())
            rows.append((method, text, f"{accuracy:.4f}", f"{zeros:.4f}"))
            found.append((zeros >= SPARSE, accuracy, text))
            print(f"{method} {text}: {accuracy:.2%} with {zeros:.1%} zeros", flush=True)
        print(f"best of {method}: {max(found)[2]}", flush=True)
    with replacing(TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("method", "trial", "validation_accuracy", "sparsity"))
        table.writerows(rows)
    print(f"table: {TABLE}")


if __name__ == "__main__":
    main()
