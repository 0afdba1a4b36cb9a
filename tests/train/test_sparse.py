"""Runs whose variables are split: u beside every evaluation, starts, resuming, bad options."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.data import digits, pixels
from coarsegrad.errors import RecipeError, TrainError
from coarsegrad.optim import RVS
from coarsegrad.train import Recipe, at_twin, load_run, read_recipe, train
from coarsegrad.train.build import build_model
from coarsegrad.train.optimizers import build_optimizer
from interruption import train_until

PLAIN = Recipe(
    data="digits", model="binarized_lenet5", epochs=2, batch_size=64, limit=640, validation=200,
    optimizer_real="sgdm", lr_real=0.01, average_images=300,
)  # fmt: skip
SPLIT = dataclasses.replace(PLAIN, rvs={"lam": 0.00125, "beta": 1.0, "warmup": 1})


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim >= 2])


def test_u_is_measured_beside_w_and_can_be_loaded(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    result = train(SPLIT, tmp_path / "run", show=rows.append)
    assert [0 < row["sparsity"] < 1 for row in rows] == [True, True]
    assert rows[-1]["sparse_accuracy"] == pytest.approx(result.sparse_accuracy)
    _, net = load_run(tmp_path / "run", sparse=True)
    zeros = float((weights(net) == 0).float().mean())
    assert zeros == pytest.approx(result.sparsity, abs=1e-6)
    assert zeros > 0.3
    assert (weights(load_run(tmp_path / "run")[1]) == 0).sum() == 0
    held_out = digits("train").take(slice(-200, None))
    with torch.no_grad():
        right = net(torch.from_numpy(pixels(held_out.x))).argmax(1) == torch.as_tensor(held_out.y)
    assert float(right.float().mean()) == pytest.approx(result.sparse_accuracy, abs=1e-6)


def test_training_is_as_if_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(SPLIT, tmp_path / "a")
    monkeypatch.setattr("coarsegrad.train.run.MeasureSparse.on_validation_epoch_start",
                        lambda *_: None)  # fmt: skip
    train(SPLIT, tmp_path / "b")
    a, b = (load_run(tmp_path / name)[1].state_dict() for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in b)


def test_interrupted_and_resumed_u_is_the_same_bits(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        SPLIT, checkpoint_every=3, rvs={**SPLIT.rvs, "support": "irreversible", "every": 0.5}
    )
    whole = train(recipe, tmp_path / "whole")
    train_until(8, recipe, tmp_path / "cut")
    resumed = train(recipe, tmp_path / "cut", resume=True)
    assert dataclasses.replace(resumed, seconds=0) == dataclasses.replace(whole, seconds=0)
    nets = [load_run(tmp_path / name, sparse=True)[1] for name in ("whole", "cut")]
    assert torch.equal(*map(weights, nets))


def test_a_run_starts_where_another_ended(tmp_path: Path) -> None:
    train(PLAIN, tmp_path / "base")
    still = dataclasses.replace(PLAIN, lr_real=0.0, seed=5, start=str(tmp_path / "base"))
    train(still, tmp_path / "on")
    assert torch.equal(*(weights(load_run(tmp_path / name)[1]) for name in ("base", "on")))
    assert not torch.equal(weights(build_model(still)), weights(load_run(tmp_path / "on")[1]))


def test_a_start_of_another_model_is_refused(tmp_path: Path) -> None:
    train(dataclasses.replace(PLAIN, epochs=1), tmp_path / "base")
    other = dataclasses.replace(PLAIN, norm=False, start=str(tmp_path / "base"))
    with pytest.raises(RecipeError, match=r"start: .*base is a run of binarized_lenet5 with other"):
        train(other, tmp_path / "on")
    assert not (tmp_path / "on").exists()
    with pytest.raises(TrainError, match="needs to be a run folder"):
        train(dataclasses.replace(PLAIN, start=str(tmp_path / "nothing")), tmp_path / "on")
    with pytest.raises(TrainError, match="has no sparse twin, for its recipe has no rvs"):
        load_run(tmp_path / "base", sparse=True)
    with pytest.raises(TrainError, match="averaged=True or sparse=True, not both"):
        load_run(tmp_path / "base", averaged=True, sparse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0, "beta": 1.0}, "Invalid lam value: -1.0"),
        ({"lam": 1.0, "beta": 0.0}, "Invalid beta value: 0.0"),
        ({"lam": 1.0}, "beta"),
        ({"lam": 1.0, "beta": 1.0, "penalty": "l3"}, "Invalid penalty value: 'l3'"),
        ({"lam": 1.0, "beta": 1.0, "speed": 2}, "speed"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    recipe = dataclasses.replace(PLAIN, rvs=options)
    with pytest.raises(
        RecipeError, match=f"the recipe's rvs with options .* is refused: .*{message}"
    ):
        build_optimizer(build_model(recipe), recipe)


def test_a_recipe_counts_warm_up_and_thresholdings_in_epochs() -> None:
    recipe = dataclasses.replace(
        SPLIT, rvs={**SPLIT.rvs, "warmup": 1.5, "support": "irreversible", "every": 2}
    )
    (group,) = build_optimizer(build_model(recipe), recipe, 100).param_groups
    assert (group["rvs_warmup"], group["rvs_every"]) == (150, 200)


def test_the_copy_at_u_has_statistics_of_its_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    splitting = RVS(torch.optim.SGD(net.parameters(), lr=0.1), lam=0.02, beta=1.0)
    x = torch.randn(50, 4) + 3
    twin = at_twin(net, splitting, [x])
    assert 0 < int((twin[0].weight == 0).sum()) < 12
    torch.testing.assert_close(twin[1].running_mean, twin[0](x).mean(0).detach())
    assert not twin.training
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "name", ["mnist_binarized_lenet5_rvscgd", "mnist_binarized_lenet5_rvscgd_paper"]
)
def test_the_shipped_recipes_build(name: str) -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / f"{name}.yaml")
    assert isinstance(build_optimizer(build_model(recipe), recipe, 937), RVS)
