"""Choose rate and weight decay of LeNet-5 with 2- and 4-bit activations: `make tune-lenet`.

Six trials for each precision and coarse derivative, 2 epochs each of the 6-16-120-84 network on the
first 50,000 MNIST training images, measured on the last 10,000 after the last epoch; the test
images are not touched. Finished trials stay in the table, so the command resumes where it was
stopped. The choices belong in CHOSEN of coarsegrad/reproduce/coarse_gradient/lenet.py. One thread.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import torch

from coarsegrad.reproduce import Ledger
from coarsegrad.train import read_recipe, recipe_path, train

RATES = (0.03, 0.1, 0.3)
DECAYS = (0.0, 5e-4)
PRECISIONS = ("W32A2", "W32A4")
STES = ("relu", "reverse_exp", "log_tailed")
FOLDER = Path("runs/tune_lenet")
TABLE = Path("benchmarks/results/tune_lenet.csv")
KEY = ("precision", "ste", "lr_real", "weight_decay")


def measure(precision: str, ste: str, lr_real: float, weight_decay: float) -> float:
    recipe = read_recipe(
        recipe_path(f"mnist_lenet5_{precision.lower()}"),
        {"layout": "6-16-120-84", "ste": ste, "lr_real": lr_real, "weight_decay": weight_decay,
         "epochs": 2, "validation": 10_000, "checkpoint_every": 10**9},
    )  # fmt: skip
    folder = FOLDER / f"{precision}-{ste}-{lr_real:g}-{weight_decay:g}"
    return train(recipe, folder, resume=(folder / "last.ckpt").exists()).accuracy


def main() -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(TABLE, (*KEY, "validation_accuracy"), KEY)
    for precision, ste in itertools.product(PRECISIONS, STES):
        for trial in itertools.product(RATES, DECAYS):
            values = dict(zip(KEY, (precision, ste, *trial), strict=True))
            if ledger.find(**values) is None:
                accuracy = measure(precision, ste, *trial)
                ledger.add([{**values, "validation_accuracy": f"{accuracy:.4f}"}])
                print(f"{values}: {accuracy:.2%} on validation images", flush=True)
        rows = [row for row in ledger.rows if (row["precision"], row["ste"]) == (precision, ste)]
        best = max(rows, key=lambda row: float(row["validation_accuracy"]))
        print(f"best for {precision}, {ste}: lr_real {best['lr_real']}, weight_decay "
              f"{best['weight_decay']}, {float(best['validation_accuracy']):.2%}",
              flush=True)  # fmt: skip
    print(f"table: {TABLE}")


if __name__ == "__main__":
    main()
