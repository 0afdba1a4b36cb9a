from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from coarsegrad import deploy, runtime
from coarsegrad.cli import app
from coarsegrad.data import Batches, digits, pixels
from coarsegrad.errors import RecipeError, TrainError
from coarsegrad.models import mlp
from coarsegrad.train import AverageLatents, Classifier, Recipe, load_run, read_recipe, train
from interruption import train_until

TINY = Recipe(
    data="digits", model="mlp", epochs=3, batch_size=64, limit=640, checkpoint_every=7,
    validation=200, average=0.9, average_images=300,
)  # fmt: skip


def saved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return found


def test_training_is_as_if_nothing_was_measured(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    without = dataclasses.replace(TINY, average=None)
    train(dataclasses.replace(TINY, evaluations=2), tmp_path / "a", show=rows.append)
    train(without, tmp_path / "b")
    a, b = (saved(tmp_path / name)["state_dict"] for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in b)
    assert all(0 < row["averaged_accuracy"] <= 1 for row in rows)
    assert (
        (tmp_path / "a" / "metrics.csv")
        .read_text()
        .splitlines()[0]
        .endswith("validation_accuracy,averaged_accuracy")
    )
    assert "averaged" not in (tmp_path / "b" / "metrics.csv").read_text()


@pytest.mark.parametrize("optimizer", ["bamsprod", "bop"])
def test_interrupted_and_resumed_the_averages_are_the_same_bits(
    optimizer: Any, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(TINY, optimizer=optimizer, lr_binary=0.01)
    whole = train(recipe, tmp_path / "whole")
    train_until(17, recipe, tmp_path / "cut")
    assert saved(tmp_path / "cut")["global_step"] == 14
    resumed = train(recipe, tmp_path / "cut", resume=True)
    states = [saved(tmp_path / name)["callbacks"]["AverageLatents"] for name in ("whole", "cut")]
    assert states[0]["steps"] == states[1]["steps"] == 30
    for name, value in states[0]["values"].items():
        assert torch.equal(states[1]["values"][name], value)
    assert resumed.averaged_accuracy == whole.averaged_accuracy
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert tables[0] == tables[1]
    assert tables[0].splitlines()[-1].endswith(f",{whole.averaged_accuracy}")


def test_from_averages_to_packed_file(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        TINY, validation=0, limit=None, batch_size=32, lr_binary=0.1, schedule="constant"
    )
    folder = tmp_path / "run"
    result = train(recipe, folder)
    assert result.averaged_accuracy is not None
    assert result.averaged_accuracy > 0.7
    assert result.averaged_accuracy != result.accuracy
    (_, net), (_, last) = load_run(folder, averaged=True), load_run(folder)
    assert not torch.equal(net[3].weight_binary, last[3].weight_binary)
    test = digits("test")
    x = pixels(test.x)
    done = CliRunner().invoke(app, ["pack", str(folder), "--averaged"])
    assert done.exit_code == 0, done.output
    path = folder / "model.cgrad"
    assert deploy.verify(net, path, torch.from_numpy(x)).differing_bits == 0
    right = runtime.load(path)(x).argmax(1) == test.y
    assert right.mean() == pytest.approx(result.averaged_accuracy, abs=1e-6)
    done = CliRunner().invoke(app, ["verify", str(folder), "--averaged", "--images", "50"])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 1


def test_a_run_without_averages_says_so(tmp_path: Path) -> None:
    recipe = Recipe(data="digits", model="mlp", epochs=1, batch_size=64, limit=64)
    assert train(recipe, tmp_path / "run").averaged_accuracy is None
    with pytest.raises(TrainError, match=r"keeps no averages .* train with average: 0.99"):
        load_run(tmp_path / "run", averaged=True)


@pytest.mark.parametrize(
    "text", ["average: 1.0", "average: 0.0", "average: .nan", "average_images: 1"]
)
def test_recipe_refuses(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"{text.split(':')[0]} is .*; input should be"):
        read_recipe(tmp_path / "r.yaml")


def batches() -> Iterator[Tensor]:
    yield torch.from_numpy(pixels(digits("train").x[:100]))


def trainer(folder: Path, callback: AverageLatents, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_counts_optimizer_steps_and_measures_from_a_checkpoint_alone(tmp_path: Path) -> None:
    data = digits("train")
    loader = Batches(data.x[:640], data.y[:640], 64, seed=0, shuffle=True)
    held_out = Batches(data.x[640:], data.y[640:], 500, seed=0, shuffle=False)
    first = AverageLatents(0.9, batches)
    module = Classifier(mlp(), TINY, 10, 10)
    fitter = trainer(tmp_path, first, accumulate_grad_batches=2)
    # Before the first step there is nothing to measure, and nothing fails.
    (found,) = fitter.validate(module, held_out, verbose=False)
    assert "averaged_accuracy" not in found
    fitter.fit(module, loader, held_out)
    assert first.ema is not None
    assert first.ema.steps == 5
    expected = fitter.validate(module, held_out, verbose=False)[0]["averaged_accuracy"]
    fitter.save_checkpoint(tmp_path / "x.ckpt")
    fresh = Classifier(mlp(), TINY, 10, 10)
    alone = trainer(tmp_path, AverageLatents(0.9, batches))
    (found,) = alone.validate(fresh, held_out, ckpt_path=tmp_path / "x.ckpt", verbose=False)
    assert found["averaged_accuracy"] == expected
