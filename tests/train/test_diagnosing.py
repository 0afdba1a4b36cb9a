from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from coarsegrad.errors import RecipeError, TrainError
from coarsegrad.models import mlp
from coarsegrad.optim import BAMSProd, Lookahead, Split, param_groups
from coarsegrad.train import LogDiagnostics, Recipe, train

TINY = Recipe(data="digits", model="mlp", epochs=2, batch_size=64, limit=640)


def test_a_run_logs_them_and_trains_the_same(tmp_path: Path) -> None:
    train(dataclasses.replace(TINY, diagnostics=True), tmp_path / "a")
    train(TINY, tmp_path / "b")
    a, b = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in "ab"
    )
    assert all(torch.equal(a[key], b[key]) for key in b)
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("diagnostics/")]
    keys = ("rho", "at_lower", "at_upper", "flips", "upsilon_negative")
    layers = ("1.weight", "3.weight", "5.weight", "total")
    assert set(tags) == {f"diagnostics/{layer}/{key}" for layer in layers for key in keys}
    flips = events.Scalars("diagnostics/total/flips")
    assert [point.step for point in flips] == [10, 20]
    assert all(0 < point.value < 1 for point in flips)


def test_torchs_own_rules_keep_none(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, diagnostics=True, optimizer="adam")
    with pytest.raises(RecipeError, match=r"got optimizer: adam.*choose one of bamsprod, adabound"):
        train(recipe, tmp_path / "run")


class Bare(lightning.LightningModule):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net = mlp(width=8)
        self.kind = kind
        self.automatic_optimization = kind != "manual"

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor | None:
        loss = self.net(batch[0]).square().mean()
        if self.automatic_optimization:
            return loss
        # Lightning's wrappers, as manual optimization hands them out.
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        if self.kind == "plain":
            return BAMSProd(self.parameters(), lr=0.01)
        if self.kind == "manual":
            groups = param_groups(self.net)
            return [BAMSProd([group], lr=0.01, diagnostics=True) for group in groups]
        rule = (BAMSProd, {"lr": 0.01, "diagnostics": True})
        return Lookahead(Split(self.net, binary=rule, real=(torch.optim.Adam, {})), k=2)


def fit(module: Bare, folder: Path, callback: LogDiagnostics, **options: Any) -> Recorder:
    logger = Recorder()
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback], logger=logger,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(48, 1, 28, 28)), batch_size=8))
    return logger


class Recorder(Logger):
    name = "recorder"
    version = 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        if any(key.startswith("diagnostics/") for key in metrics):
            assert step not in self.rows
            self.rows[step] = dict(metrics)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore")
def test_every_counts_optimizer_steps_through_composites(tmp_path: Path) -> None:
    rows = fit(Bare("nested"), tmp_path, LogDiagnostics(every=1), accumulate_grad_batches=2).rows
    assert list(rows) == [1, 2, 3]
    assert {"diagnostics/total/flips", "diagnostics/1.weight/rho"} <= rows[1].keys()
    assert not any("2.weight" in key for key in rows[1])


@pytest.mark.filterwarnings("ignore")
def test_several_optimizers_are_numbered(tmp_path: Path) -> None:
    rows = fit(Bare("manual"), tmp_path, LogDiagnostics(every=4)).rows
    assert list(rows) == [4, 8, 12]
    assert {"diagnostics/0/total/flips", "diagnostics/1/2.weight/flips"} <= rows[4].keys()


@pytest.mark.filterwarnings("ignore")
def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(
        TrainError, match=r"needs an optimizer that keeps diagnostics, got BAMSProd"
    ):
        fit(Bare("plain"), tmp_path, LogDiagnostics())
    for every in (0, 1.5):
        with pytest.raises(ValueError, match=r"needs every as an integer of 1 or more, got"):
            LogDiagnostics(every)  # type: ignore[arg-type]
