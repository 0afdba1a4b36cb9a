"""Choose rate and weight decay of LeNet-5 on quantized activations: `make tune-lenet`.

Four trials for each of the three coarse derivatives, of the recipe mnist_lenet5_w32a2 in its small
layout, cut to 2 epochs and measured on the last 10,000 training images; the test images are not
touched. What wins on average over the derivatives serves all of them, both layouts and 2 and 4
bits. The two rates of mnist_lenet5_w1a2 are chosen likewise, from four trials of 4 epochs. One
thread, some 8 minutes of a quiet core. Finished trials are kept, so the command resumes where it
was stopped.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path
from typing import Any

import torch

from coarsegrad.files import replacing
from coarsegrad.train import Result, read_recipe, recipe_path, train

STES = ("relu", "reverse_exp", "log_tailed")
FLOAT_WEIGHTS: list[dict[str, Any]] = [
    {"lr_real": 0.03, "weight_decay": 5e-4},
    {"lr_real": 0.1, "weight_decay": 5e-4},
    {"lr_real": 0.3, "weight_decay": 5e-4},
    {"lr_real": 0.1, "weight_decay": 0.0},
]
ONE_BIT: list[dict[str, Any]] = [
    {"lr_binary": lr_binary, "lr_real": lr_real}
    for lr_binary in (3e-3, 1e-2)
    for lr_real in (3e-3, 1e-2)
]
# recipe, what is the same in all its trials, trials, coarse derivatives
GRIDS: list[tuple[str, dict[str, Any], list[dict[str, Any]], tuple[str, ...]]] = [
    ("mnist_lenet5_w32a2", {"layout": "6-16-120-84", "epochs": 2}, FLOAT_WEIGHTS, STES),
    ("mnist_lenet5_w1a2", {"epochs": 4}, ONE_BIT, ("relu",)),
]
FOLDER = Path("runs/tune_lenet")
TABLE = Path("benchmarks/results/tune_lenet.csv")


def measure(name: str, same: dict[str, Any], ste: str, trial: dict[str, Any]) -> Result:
    changes = {**same, **trial, "ste": ste, "validation": 10_000}
    recipe = read_recipe(recipe_path(name), changes)
    text = "_".join(f"{key}{value:g}" for key, value in trial.items())
    folder = FOLDER / f"{name}_{ste}_{text}"
    return train(recipe, folder, resume=(folder / "last.ckpt").exists())


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, same, trials, stes in GRIDS:
        means = []
        for trial in trials:
            found = [measure(name, same, ste, trial).accuracy for ste in stes]
            text = " ".join(f"{key}={value:g}" for key, value in trial.items())
            rows += [
                (name, ste, text, f"{accuracy:.4f}")
                for ste, accuracy in zip(stes, found, strict=True)
            ]
            means.append((statistics.mean(found), text))
            each = ", ".join(f"{s} {a:.2%}" for s, a in zip(stes, found, strict=True))
            print(f"{name} {text}: {each}", flush=True)
        print(f"best of {name}: {max(means)[1]}, mean {max(means)[0]:.2%}", flush=True)
    with replacing(TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("recipe", "ste", "trial", "validation_accuracy"))
        table.writerows(rows)
    print(f"table: {TABLE}")


if __name__ == "__main__":
    main()
