"""The callback: rows as of the plain function, and training as if nothing was measured."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from coarsegrad.errors import DivergenceError, RecipeError, TrainError
from coarsegrad.train import Recipe, Smoothness, read_recipe, train
from interruption import train_until

TINY = Recipe(data="digits", model="mlp", width=16, epochs=2, batch_size=64, limit=320)
COLUMNS = ["step", "gradient", "smoothness", "length", "hessian", "loss"]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def saved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return found


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


def test_training_is_as_if_nothing_was_measured(tmp_path: Path) -> None:
    """Weights, buffers of the batch norms, the optimizer's state: all the same bits."""
    train(dataclasses.replace(TINY, smoothness=3), tmp_path / "a")
    train(TINY, tmp_path / "b")
    a, b = saved(tmp_path / "a"), saved(tmp_path / "b")
    assert equal(a["state_dict"], b["state_dict"])
    assert equal(a["optimizer_states"], b["optimizer_states"])
    rows = table(tmp_path / "a" / "smoothness.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["0", "3", "6", "9"]
    assert all(float(row["smoothness"]) > 0 and row["hessian"] == "" for row in rows)
    assert not list(tmp_path.glob("*/*.partial.csv"))
    assert not (tmp_path / "b" / "smoothness.csv").exists()


def test_interrupted_and_resumed_the_table_is_the_same(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, smoothness=2, checkpoint_every=3)
    train(recipe, tmp_path / "whole")
    train_until(8, recipe, tmp_path / "cut")
    cut = tmp_path / "cut"
    assert [row["step"] for row in table(cut / "smoothness.partial.csv")] == ["0", "2", "4", "6"]
    assert not (cut / "smoothness.csv").exists(), "marked as partial"
    train(recipe, cut, resume=True)
    whole = (tmp_path / "whole" / "smoothness.csv").read_text()
    assert (cut / "smoothness.csv").read_text() == whole
    assert not (cut / "smoothness.partial.csv").exists()


class Bare(lightning.LightningModule):
    """A module of somebody else's, with dropout, whose steps its loader decides."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return squares(self, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def squares(module: nn.Module, batch: list[Tensor]) -> Tensor:
    x, y = batch
    return F.mse_loss(module.net(x), y)  # type: ignore[operator]


def fit(folder: Path, callback: Smoothness | None, lr: float = 0.1, **options: Any) -> Bare:
    torch.manual_seed(0)
    module = Bare(lr)
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback] if callback else [], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8))
    return module


@pytest.mark.filterwarnings("ignore:The '.*_dataloader':UserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_any_module_with_its_loss(tmp_path: Path) -> None:
    """Dropout draws from torch's generator: with the callback, the same draws."""
    callback = Smoothness(tmp_path / "a.csv", 2, loss=squares, hessian=5)
    watched, plain = fit(tmp_path, callback), fit(tmp_path, None)
    assert equal(watched.state_dict(), plain.state_dict())
    rows = table(tmp_path / "a.csv")
    assert [row["step"] for row in rows] == ["0", "2", "4"]
    for row in rows:
        assert 0 < float(row["smoothness"]) <= 1.2 * float(row["hessian"])


@pytest.mark.filterwarnings("ignore:The '.*_dataloader':UserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    callback = Smoothness(tmp_path / "a.csv", 1, loss=squares)
    fit(tmp_path, callback, accumulate_grad_batches=2)
    assert [row["step"] for row in callback.rows] == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:The '.*_dataloader':UserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_a_fixed_batch(tmp_path: Path) -> None:
    """Each row is on this batch: the loss falls without the noise of others."""
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(3))
    callback = Smoothness(tmp_path / "a.csv", 1, batch=[x, x.sum(1, keepdim=True)], loss=squares)
    fit(tmp_path, callback)
    losses = [row["loss"] for row in callback.rows]
    assert losses == sorted(losses, reverse=True)  # type: ignore[type-var]


@pytest.mark.filterwarnings("ignore:The '.*_dataloader':UserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_a_diverging_run_keeps_its_rows_marked(tmp_path: Path) -> None:
    callback = Smoothness(tmp_path / "a.csv", 1, loss=squares)
    with pytest.raises(DivergenceError, match="local_smoothness diverged: the loss is"):
        fit(tmp_path, callback, lr=1e30)
    assert [file.name for file in tmp_path.glob("*.csv")] == ["a.partial.csv"]
    assert table(tmp_path / "a.partial.csv")[0]["step"] == "0"


@pytest.mark.filterwarnings("ignore:The '.*_dataloader':UserWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:")
def test_short_steps_warn(tmp_path: Path) -> None:
    callback = Smoothness(tmp_path / "a.csv", 4, loss=squares, dtype=None)
    with pytest.warns(RuntimeWarning, match=r"too short .* give Smoothness dtype=torch.float64"):
        fit(tmp_path, callback, lr=1e-6)
    assert callback.rows[0]["smoothness"] is None
    exact = Smoothness(tmp_path / "b.csv", 4, loss=squares)
    fit(tmp_path, exact, lr=1e-4)
    assert all(row["smoothness"] for row in exact.rows)


@pytest.mark.filterwarnings("ignore")
def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"needs loss for a Bare, which is no Classifier; give"):
        fit(tmp_path, Smoothness(tmp_path / "a.csv"))
    for options in ({"every": 0}, {"points": 1.5}, {"hessian": -1}):
        with pytest.raises(ValueError, match=r"Smoothness needs \w+ as an integer of [01] or more"):
            Smoothness(tmp_path / "a.csv", **options)  # type: ignore[arg-type]
    (tmp_path / "r.yaml").write_text("smoothness: 0")
    with pytest.raises(RecipeError, match="smoothness is 0; input should be"):
        read_recipe(tmp_path / "r.yaml")
