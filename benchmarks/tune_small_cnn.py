"""Choose small_cnn's two learning rates on held-out training images: `make tune`.

A 3 x 3 grid over the rates of the binary weights and of batch norm, 6 epochs each on the first
50,000 MNIST training images, measured on the last 10,000 after the last epoch; the test images
are not touched. Finished runs are kept, so the command resumes where it was stopped.
"""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

from coarsegrad.train import read_recipe, recipe_path, train

RATES = (3e-3, 1e-2, 3e-2)
FOLDER = Path("runs/tune_small_cnn")
TABLE = Path("benchmarks/results/tune_small_cnn.csv")


def measure(lr_binary: float, lr_real: float) -> float:
    recipe = read_recipe(
        recipe_path("mnist_small_cnn"),
        {"lr_binary": lr_binary, "lr_real": lr_real, "validation": 10_000},
    )
    folder = FOLDER / f"binary{lr_binary:g}_real{lr_real:g}"
    result = train(recipe, folder, resume=(folder / "last.ckpt").exists())
    return result.accuracy


def main() -> None:
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for lr_binary, lr_real in itertools.product(RATES, RATES):
        accuracy = measure(lr_binary, lr_real)
        rows.append((lr_binary, lr_real, f"{accuracy:.4f}"))
        print(f"lr_binary {lr_binary:g}, lr_real {lr_real:g}: {accuracy:.2%} on validation images",
              flush=True)  # fmt: skip
    with TABLE.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("lr_binary", "lr_real", "validation_accuracy"))
        table.writerows(rows)
    best = max(rows, key=lambda row: float(row[2]))
    print(f"best: lr_binary {best[0]:g}, lr_real {best[1]:g}; table: {TABLE}")


if __name__ == "__main__":
    main()
