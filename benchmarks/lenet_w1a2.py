"""LeNet-5 with 1-bit weights and 2-bit activations, packed: `make lenet-w1a2`.

Two recipes, three seeds each, one thread; finished runs are kept, stopped ones go on. Each is
packed and verified on 1,000 test images, and the packed file, not the torch model, is measured on
all test images, once a run.
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import torch

from coarsegrad import deploy, runtime
from coarsegrad.data import mnist, pixels
from coarsegrad.files import replacing
from coarsegrad.train import load_run, read_recipe, recipe_path, train

RECIPES = ("mnist_lenet5_w1a2", "mnist_lenet5_w1a2_float_ends")
SEEDS = 3
FOLDER = Path("runs/lenet_w1a2")
TABLE = Path("benchmarks/results/lenet_w1a2.csv")


def trained(name: str, seed: int) -> Path:
    """Train a run to its end, unless it has been; return its folder."""
    folder = FOLDER / f"{name}-seed{seed}"
    recipe = read_recipe(recipe_path(name), {"seed": seed})
    if not (folder / "model.cgrad").exists():
        train(recipe, folder, resume=(folder / "last.ckpt").exists())
    return folder


def measured(folder: Path) -> tuple[float, int, int, int]:
    """Pack and verify a run; return the file's accuracy, its bytes, levels compared and differing.

    Raises:
        VerifyError: a level differs where rounding cannot have decided it.
    """
    _, net = load_run(folder)
    test = mnist("test")
    x = torch.from_numpy(pixels(test.x))
    out = folder / "model.cgrad"
    deploy.pack(net, x[:2], out)
    report = deploy.verify(net, out, x[:1000])
    accuracy = float((runtime.load(out)(x.numpy()).argmax(1) == test.y).mean())
    return accuracy, out.stat().st_size, report.compared_bits, report.differing_bits


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name in RECIPES:
        found = []
        for seed in range(SEEDS):
            row = measured(trained(name, seed))
            found.append(row[0])
            rows.append((name, seed, f"{row[0]:.4f}", *row[1:]))
            print(f"{name} seed {seed}: packed {row[0]:.2%}, {row[1]:,} bytes, {row[3]} of "
                  f"{row[2]:,} levels differ", flush=True)  # fmt: skip
        print(f"{name}: mean {statistics.mean(found):.2%}", flush=True)
    with replacing(TABLE) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("recipe", "seed", "packed_test_accuracy", "bytes", "levels", "differing"))
        table.writerows(rows)
    print(f"table: {TABLE}")


if __name__ == "__main__":
    main()
