"""Choose the learning rates of VGG-Small and of its float twin: `make tune-cifar`.

Six trials each, of the recipes cifar10_vgg_small_cpu and cifar10_vgg_small_cpu_twin cut to 2
epochs on the first 12,800 training images, measured on the last 5,000 after the second; the test
images are not touched. One thread, some 15 minutes of a quiet core. Finished trials are kept, so
the command resumes where it was stopped.
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from coarsegrad.files import replacing
from coarsegrad.train import Result, read_recipe, recipe_path, train

TRIALS: dict[str, list[dict[str, float]]] = {
    "cifar10_vgg_small_cpu": [
        {"lr_binary": lr_binary, "lr_real": lr_real}
        for lr_binary in (1e-3, 3e-3, 1e-2)
        for lr_real in (1e-3, 5e-3)
    ],
    "cifar10_vgg_small_cpu_twin": [
        {"lr_real": lr_real} for lr_real in (3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 1e-2)
    ],
}
SHORT = {"epochs": 2, "limit": 12_800, "validation": 5_000}
FOLDER = Path("runs/tune_vgg_small")
TABLE = Path("benchmarks/results/tune_vgg_small.csv")


def measure(name: str, rates: dict[str, float]) -> Result:
    recipe = read_recipe(recipe_path(name), {**SHORT, **rates})
    trial = "_".join(f"{key}{value:g}" for key, value in rates.items())
    folder = FOLDER / f"{name}_{trial}"
    return train(recipe, folder, resume=(folder / "last.ckpt").exists())


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, trials in TRIALS.items():
        found = []
        for rates in trials:
            result = measure(name, rates)
            found.append((result.accuracy, rates))
            rows.append(
                (name, rates.get("lr_binary", ""), rates["lr_real"], f"{result.accuracy:.4f}")
            )
            print(f"{name} {rates}: {result.accuracy:.2%} on {result.images:,} validation images "
                  f"of {result.data}, {result.seconds:.0f} s", flush=True)  # fmt: skip
        best = max(found, key=lambda row: row[0])
        print(f"best of {name}: {best[1]}", flush=True)
    with replacing(TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("recipe", "lr_binary", "lr_real", "validation_accuracy"))
        table.writerows(rows)
    print(f"table: {TABLE}")


if __name__ == "__main__":
    main()
