"""Eight optimizers on two binary networks, MNIST: `make study`.

For each network and method, eight trials of hyper-parameters on held-out training images, then five
fresh seeds of the best trial, each measured on the test images once. The trials are Latin
hypercubes: a trial's place in the ranges of lr_real and beta1 is the same for all methods. Every
run takes one thread and leaves one JSON file, so that the command goes on where it was stopped;
`--workers 2` uses two cores. study_report.py makes tables of the files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from coarsegrad.data import Batches, mnist
from coarsegrad.files import replacing
from coarsegrad.train import load_run, read_recipe, recipe_path, train

FOLDER = Path("runs/study_mnist")
TRIALS = 8
SEEDS = (100, 101, 102, 103, 104)
TRIAL_SEED = 7

NETS: dict[str, dict[str, Any]] = {
    "mlp": {"recipe": "mnist_mlp", "epochs": 3, "batch_size": 128, "limit": 55_000},
    "small_cnn": {"recipe": "mnist_small_cnn", "epochs": 2, "batch_size": 64, "limit": 20_000},
}
COMMON = {"lr_real": (2e-3, 1e-1), "one_minus_beta1": (0.03, 0.3)}
# (low, high) of log-uniform ranges; ``z`` is Bop2ndOrder's threshold over sqrt(gamma), the size
# of m / sqrt(v) on gradients that are noise.
METHODS: dict[str, dict[str, tuple[float, float]]] = {
    "sgdm": {"lr_binary": (0.03, 3.0)},
    "adam": {"lr_binary": (1e-3, 3e-2)},
    "amsgrad": {"lr_binary": (1e-3, 3e-2)},
    "adabound": {"lr_binary": (1e-3, 3e-2), "final_lr": (0.1, 3.0)},
    "amsbound": {"lr_binary": (1e-3, 3e-2), "final_lr": (0.1, 3.0)},
    "bop": {"gamma": (1e-4, 1e-2), "threshold": (1e-8, 1e-5)},
    "bop2ndorder": {"gamma": (1e-4, 1e-2), "z": (0.03, 3.0)},
    "bamsprod": {"lr_binary": (1e-3, 3e-2)},
}


def points(method: str) -> list[dict[str, float]]:
    """Return the trials of a method: one stratum of every range each."""
    ranges = {**COMMON, **METHODS[method]}
    rng = np.random.default_rng(2026)
    columns = {}
    for name, (low, high) in zip(ranges, ranges.values(), strict=True):
        # The same draws in the same order for all methods: ranges are paired by position.
        place = (rng.permutation(TRIALS) + rng.random(TRIALS)) / TRIALS
        columns[name] = np.exp(math.log(low) + place * math.log(high / low))
    return [{name: float(f"{columns[name][i]:.4g}") for name in ranges} for i in range(TRIALS)]


def values_of(method: str, point: dict[str, float]) -> dict[str, Any]:
    """Return a trial as recipe values."""
    flips = method.startswith("bop")
    options: dict[str, Any] = {
        k: point[k] for k in ("gamma", "threshold", "final_lr") if k in point
    }
    if "z" in point:
        options["threshold"] = float(f"{point['z'] * math.sqrt(point['gamma']):.4g}")
    return {
        "optimizer": method,
        "options": options,
        "optimizer_real": "adam",
        "lr_binary": 1.0 if flips else point["lr_binary"],
        "lr_real": point["lr_real"],
        "beta1": round(1 - point["one_minus_beta1"], 4),
    }


class Curve(lightning.Callback):
    """Collect (epochs, held-out accuracy)."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.points: list[tuple[float, float]] = []

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add a point."""
        accuracy = float(trainer.callback_metrics["validation_accuracy"])
        self.points.append((trainer.global_step / self.steps, accuracy))


def run(
    name: str, net: str, method: str, point: dict[str, float], seed: int, *, final: bool
) -> str:
    """Do one run and write its file."""
    torch.set_num_threads(1)
    settings = dict(NETS[net])
    recipe = read_recipe(
        recipe_path(settings.pop("recipe")),
        {**settings, **values_of(method, point), "seed": seed, "validation": 5_000,
         "evaluations": 4 if final else 1, "checkpoint_every": 10**9},
    )  # fmt: skip
    folder = FOLDER / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    curve = Curve(recipe.limit // recipe.batch_size if recipe.limit else 1)
    start = time.monotonic()
    record: dict[str, Any] = {
        "net": net, "settings": NETS[net], "method": method, "point": point, "seed": seed
    }  # fmt: skip
    try:
        result = train(recipe, folder, callbacks=[curve])
        record |= {"validation": result.accuracy, "curve": curve.points}
        if final:
            record["test"] = test_accuracy(folder)
    except Exception as error:  # a diverging trial is a result
        record |= {"validation": 0.0, "error": str(error)[:200]}
    record["seconds"] = round(time.monotonic() - start, 1)
    shutil.rmtree(folder, ignore_errors=True)
    with replacing(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(record))
    return f"{name}: {record['validation']:.4f} {record.get('test', '')} {record['seconds']} s"


def test_accuracy(folder: Path) -> float:
    """Measure a finished run on the test images."""
    _, net = load_run(folder)
    images = mnist("test")
    with torch.no_grad():
        right = sum(
            int((net(x).argmax(1) == y).sum())
            for x, y in Batches(images.x, images.y, 500, seed=0, shuffle=False)
        )
    return right / len(images)


def read(name: str) -> dict[str, Any] | None:
    """Return a finished run's record, if it was made with the settings of today."""
    path = FOLDER / f"{name}.json"
    record = json.loads(path.read_text()) if path.exists() else None
    return record if record and record["settings"] == NETS[record["net"]] else None


def best_point(net: str, method: str) -> dict[str, float]:
    """Return the trial with the highest held-out accuracy."""
    records = [read(f"{net}-{method}-trial{i}") for i in range(TRIALS)]
    assert all(records)
    return max((r for r in records if r), key=lambda r: r["validation"])["point"]


def _batch(jobs: list[tuple[Any, ...]], workers: int, *, final: bool) -> None:
    left = [job for job in jobs if read(job[0]) is None]
    print(f"{len(jobs) - len(left)} of {len(jobs)} runs are done", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(run, *job, final=final) for job in left]:
            print(future.result(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    args = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for net in args.nets:
        trials = [
            (f"{net}-{method}-trial{i}", net, method, point, TRIAL_SEED)
            for i in range(TRIALS)
            for method, point in ((m, points(m)[i]) for m in METHODS)
        ]
        _batch(trials, args.workers, final=False)
        seeds = [
            (f"{net}-{method}-seed{seed}", net, method, best_point(net, method), seed)
            for seed in SEEDS
            for method in METHODS
        ]
        _batch(seeds, args.workers, final=True)


if __name__ == "__main__":
    main()
