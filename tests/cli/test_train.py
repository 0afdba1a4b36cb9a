"""coarsegrad train and demo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coarsegrad.data import digits, pixels
from commandline import Run

MLP = [f"--set={pair}" for pair in ("model=mlp", "epochs=2", "batch_size=64", "limit=640")]


def test_train_pack_verify_predict(run: Run) -> None:
    done = run("train", "digits_small_cnn", *MLP)
    assert done.code == 0, done.err
    assert "epoch 2/2: loss" in done.out
    assert "test accuracy" in done.out
    assert "next: coarsegrad pack runs/digits_small_cnn" in done.out
    folder = "runs/digits_small_cnn"
    assert run("pack", folder).code == 0
    assert "50 samples on " in run("verify", folder, "--images", "50").out
    np.save("x.npy", pixels(digits("test").x[:9]))
    done = run("predict", folder, "x.npy", "--out", "y.npy")
    assert done.code == 0, done.err
    labels = [int(line) for line in done.out.split()]
    assert labels == np.load("y.npy").argmax(1).tolist()
    assert len(labels) == 9
    found = json.loads(run("predict", f"{folder}/model.cgrad", "x.npy", "--json").out)
    assert (found["classes"], found["out"]) == (labels, None)
    done = run("train", "digits_small_cnn", *MLP)
    assert (done.code, done.out) == (1, "")
    assert "holds a run already" in done.said


def test_seeds_in_one_command_as_json(run: Run) -> None:
    done = run("train", "digits_small_cnn", *MLP, "--set=epochs=1", "--seeds", "2", "--json")
    assert done.code == 0, done.err
    assert "seed 1: runs/digits_small_cnn-seed1" in done.err
    assert "epoch 1/1" in done.err
    found = json.loads(done.out)
    accuracies = [one["accuracy"] for one in found["runs"]]
    assert len(accuracies) == 2
    assert found["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert found["accuracy"]["lowest"] == min(accuracies)
    assert Path(found["runs"][1]["folder"], "last.ckpt").is_file()


def test_one_run_as_json(run: Run) -> None:
    done = run("train", "digits_small_cnn", *MLP, "--run", "r", "--json")
    found = json.loads(done.out)
    assert (found["folder"], found["images"], found["measured_on"]) == ("r", 360, "test")
    assert 0 < found["accuracy"] <= 1
    assert "epoch 2/2" in done.err


BAD = [
    (["mnist_smal_cnn"], "Did you mean 'mnist_small_cnn'"),
    (["mnist_small_cnn", "--set", "epoch=3"], "unknown key 'epoch'. Did you mean"),
    (["mnist_small_cnn", "--resume"], "there is nothing to resume in"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=str)
def test_errors(words: list[str], message: str, run: Run) -> None:
    before = sorted(Path().rglob("*"))
    done = run("train", *words)
    assert (done.code, done.out) == (1, "")
    assert message in done.said
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("content", [["thesis.txt"], ["recipe.yaml", "last.ckpt"], ["last.ckpt"]])
def test_demo_keeps_folders_that_are_not_its_own(content: list[str], run: Run) -> None:
    Path("precious").mkdir()
    for name in content:
        Path("precious", name).write_text("seed: 99" if name == "recipe.yaml" else "")
    done = run("demo", "--run", "precious", "--json")
    assert done.code == 2
    assert "is not an earlier demo's" in json.loads(done.out)["error"]["message"]
    assert sorted(file.name for file in Path("precious").iterdir()) == sorted(content)


def test_damaged_mnist_is_not_taken_for_absent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COARSEGRAD_DATA", str(Path.cwd()))
    Path("mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        Path("mnist", f"{name}-ubyte.gz").write_bytes(b"junk")
    done = run("demo")
    assert done.code == 1
    assert "train-images-idx3-ubyte.gz" in done.said


def test_the_demo_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its steps, on a recipe of one epoch."""
    from coarsegrad.train import Recipe

    tiny = Recipe(data="digits", model="mlp", epochs=1, batch_size=64, limit=640)
    monkeypatch.setenv("COARSEGRAD_DATA", "nowhere")
    monkeypatch.setattr("coarsegrad.train.read_recipe", lambda *_: tiny)
    done = run("demo", "--run", "d", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["recipe"] == "digits_small_cnn"
    assert found["pack"]["bytes"] == Path("d/model.cgrad").stat().st_size
    assert found["verify"]["differing_bits"] == 0
    assert found["comparison"]["torch_accuracy"] == found["comparison"]["packed_accuracy"]
    assert found["train"]["accuracy"] == pytest.approx(found["comparison"]["torch_accuracy"])
    assert found["bench"]["contestants"][0]["ratio"] == 1
    for step in "12345":
        assert f"\n{step}. " in f"\n{done.err}"
    assert "not MNIST, and not comparable with it" in done.said


def test_predict_of_no_samples(run: Run) -> None:
    from coarsegrad import packed

    packed.write("net.cgrad", packed.Program((3,), (packed.Sign(),), {}))
    np.save("x.npy", np.zeros((0, 3), np.float32))
    done = run("predict", "net.cgrad", "x.npy")
    assert (done.code, done.out) == (0, ""), done.err
