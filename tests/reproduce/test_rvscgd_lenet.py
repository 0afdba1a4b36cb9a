"""Table 1 of RVSCGD: which runs there are, what is said of them, and the control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coarsegrad.reproduce import Request, run
from coarsegrad.reproduce.rvscgd import lenet, table1
from coarsegrad.reproduce.rvscgd.magnitude import GradualPruning, prunable


def row(method: str, seed: int, accuracy: float, sparsity: float = 0.0) -> dict[str, Any]:
    return {
        "method": method, "seed": seed, "epochs": 12, "images": 60_000, "accuracy_w": 0.5,
        "accuracy": accuracy, "sparsity": sparsity, "zeros_by_layer": "", "seconds": 1.0,
    }  # fmt: skip


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[lenet.Run]:
    """Stand in for the training; the list collects what was trained."""
    found: list[lenet.Run] = []

    def train(request: Request, one: lenet.Run) -> dict[str, Any]:
        found.append(one)
        if one.method == "base":
            return row("base", one.seed, 0.95)
        if one.method == "no norm":
            return row("no norm", one.seed, 0.1135)
        return row(one.method, one.seed, 0.94, 0.0 if one.method == "dense" else 0.85)

    monkeypatch.setattr(lenet, "_train", train)
    return found


def test_the_runs_of_the_table_and_what_is_said(tmp_path: Path, trained: list[lenet.Run]) -> None:
    report = table1.run(Request(tmp_path))
    assert len(trained) == len(set(trained)) == 3 * 6 + 1
    verdicts = {row.ours.partition(":")[0]: row.verdict for row in report.rows}
    assert list(verdicts.values()) == ["holds", "does not hold", *["holds"] * 3]
    assert "85.00 % zeros, +1.00 points below the base; at w 50.00 %" in report.rows[2].ours
    first, second = report.notes[-2:]
    assert first.startswith("Control, gradual magnitude pruning: 94.00 % (94.00 to 94.00, 3 seeds)")
    assert second.startswith("Control, trained on, nothing pruned: 94.00 %")
    assert table1.run(Request(tmp_path)).rows == report.rows
    assert len(trained) == 19
    assert all(row.verdict == "not run" for row in table1.run(Request(tmp_path, quick=True)).rows)


def test_a_drop_that_is_too_large_differs() -> None:
    text = {key: str(value) for key, value in row("base", 0, 0.95).items()}
    sparse = {key: str(value) for key, value in row("l0", 0, 0.90, 0.85).items()}
    assert table1.compared({"base": [text], "l0": [sparse]}, quick=False)[1].verdict == "differs"


def test_each_run_is_a_recipe_that_differs_in_what_its_row_says() -> None:
    recipes = {
        method: lenet.Run(method, 1).recipe(quick=False, start=Path("somewhere"))
        for method in lenet.METHODS
    }
    assert {recipe.seed for recipe in recipes.values()} == {1}
    assert {(r.epochs, r.lr_real, r.weight_decay) for r in recipes.values()} == {(12, 1e-3, 5e-4)}
    split = {method: recipes[method].rvs.get("penalty") for method in recipes}
    assert split == {method: method if method in lenet.SPLITTINGS else None for method in recipes}
    assert [method for method, recipe in recipes.items() if recipe.norm is False] == ["no norm"]


def test_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing, on few images of the test's own: the base it starts from comes with it."""
    from coarsegrad import data
    from coarsegrad.data import Images, digits

    few = digits("train").take(slice(0, 200))
    monkeypatch.setattr(data, "mnist", lambda split: Images(few.x, few.y, "MNIST", 10))
    request = Request(tmp_path, quick=True, only={"method": ("l0", "magnitude")})
    report = run("rvscgd", "table1", request)
    rows = {row["method"]: row for row in lenet.table(request).rows}
    assert set(rows) == {"base", "l0", "magnitude"}
    assert rows["base"]["sparsity"] == "0.0"
    assert float(rows["magnitude"]["sparsity"]) == pytest.approx(
        lenet.MAGNITUDE["sparsity"], abs=1e-3
    )
    assert 0 < float(rows["l0"]["sparsity"]) < 1
    assert len(rows["l0"]["zeros_by_layer"].split()) == 5
    assert len(report.rows) == 2


class Trainer:
    global_step = 0
    estimated_stepping_batches = 8


class Module:
    """Stands for a Classifier."""


def test_gradual_pruning_follows_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    from coarsegrad.reproduce.rvscgd import magnitude

    monkeypatch.setattr(magnitude, "Classifier", Module)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10, bias=False))
    trainer, module = Trainer(), Module()
    module.net = net  # type: ignore[attr-defined]
    pruning = GradualPruning(0.8, until=0.5, every=1)
    seen = []
    for step in range(1, 7):
        trainer.global_step = step
        before = torch.cat([w.flatten() for w in prunable(net)])
        pruning.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        after = torch.cat([w.flatten() for w in prunable(net)])
        assert before[after == 0].abs().max() <= after[after != 0].abs().min()
        seen.append(float((after == 0).float().mean()))
        with torch.no_grad():
            net[0].weight.add_(0.01)
    expected = [0.8 * (1 - (1 - t / 4) ** 3) for t in (1, 2, 3, 4, 4, 4)]
    assert seen == pytest.approx(expected, abs=2e-3)
    assert float((net[0].bias == 0).float().sum()) == 0


@pytest.mark.parametrize(
    "bad", [(1.0, 0.5, 1), (-0.1, 0.5, 1), (0.5, 0, 1), (0.5, 1.1, 1), (0.5, 0.5, 0)]
)
def test_gradual_pruning_refuses(bad: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match=r"GradualPruning needs sparsity in \[0, 1\)"):
        GradualPruning(*bad)
