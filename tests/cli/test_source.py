"""What SOURCE may be, and what is said of everything else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from coarsegrad import deploy, models, nn, packed, quantizers
from coarsegrad.cli.source import batch, kind_of, resolve
from coarsegrad.errors import SourceError
from coarsegrad.packed import Program, Sign
from commandline import Run

# words, what is said; {here} is the folder
BAD = [
    (["pack", "nowhere"], "there is no run folder 'nowhere'. SOURCE is a run folder (make one "),
    (["pack", "mnist_mlp"], "It is a recipe; make the run first: coarsegrad train mnist_mlp"),
    (["pack", "mynets"], "needs the function's name too: mynets:FUNCTION"),
    (["pack", "my.nets"], "needs the function's name too: my.nets:FUNCTION"),
    (["pack", "runs/exmaple"], "Did you mean 'runs/example'?"),
    (
        ["pack", "w.pt"],
        "a model's weights need its function: package.module:func",
    ),
    (["pack", "net.cgrad"], "net.cgrad is a packed file, which holds no torch model"),
    (["verify", "net.cgrad"], "net.cgrad is a packed file, which holds no torch model"),
    (["check", "net.cgrad"], "net.cgrad is a packed file, which holds no torch model"),
    (["convert", "net.cgrad"], "convert needs a float model, package.module:function; net.cgrad"),
    (["convert", "runs"], "runs is a folder, and a run's model is what its recipe makes it"),
    (["pack", "empty"], "needs to be a run folder with recipe.yaml and last.ckpt, recipe.yaml is"),
    (["pack", "runs/example"], "last.ckpt is missing; make one with: coarsegrad train RECIPE"),
    (["check", "runs/example", "--weights", "w.pt"], "--weights is for package.module:function"),
    (["check", "runs/example", "--input", "8"], "runs/example is a run folder, which has its own"),
    (["check", "mynets:pair", "--averaged"], "--averaged is for run folders; mynets:pair is a"),
    (["predict", "runs/example", "x.npy"], "make it with: coarsegrad pack runs/example"),
    (["predict", "empty", "x.npy"], "empty holds no model.cgrad; it is no run folder either"),
    (["predict", "mynets:pair", "x.npy"], "coarsegrad pack mynets:pair --weights FILE.pt --out"),
    (["predict", "w.pt", "x.npy"], "w.pt is not a packed file by its name"),
    (["predict", "none.cgrad", "x.npy"], "make it with: coarsegrad pack SOURCE --out none.cgrad"),
    (["predict", "damaged.cgrad", "x.npy"], "damaged.cgrad: is truncated"),
    (["predict", "net.cgrad", "mynets.py"], "mynets.py is not an array that numpy.save wrote"),
    (["predict", "net.cgrad", "x.npz"], "x.npz holds several arrays (.npz)"),
    (["predict", "net.cgrad", "none.npy"], "No such file or directory: 'none.npy'"),
    (["predict", "net.cgrad", "x.npy", "--out", "empty"], "empty is a folder"),
    (["predict", "net.cgrad", "x.npy", "--out", "no/y.npy"], "make it with: mkdir -p no"),
    (["bench", "net.cgrad", "--target", "neon", "--no-peers"], "there is no target 'neon'"),
    (["summary", "damaged.cgrad"], "damaged.cgrad: is truncated"),
    (["summary", "mynets:tiny"], "--input 1,28,28, or return (module, torch.zeros(1, 1, 28, 28))"),
    (["summary", "mynets:tiny", "--input", "8,x"], "--input needs one sample's sizes"),
    (["summary", "mynets:tiny", "--input", "0"], "--input needs one sample's sizes"),
    (["summary", "mynets:tiny", "--input", "3"], "samples of (3,) fails with RuntimeError: mat1"),
    (
        ["check", "mynets:pair", "--batch", "x.npy"],
        "float32 (N, 8), x.npy holds float32 (2, 3)",
    ),
    (["check", "mynets:pair", "--batch", "d.npy"], "d.npy holds float64 (2, 8)"),
    (["pack", "mynets:pair", "--out", "y.cgrad"], "give --weights FILE.pt, as torch.save(net.st"),
    (["verify", "mynets:pair", "net.cgrad"], "verify needs the trained weights of mynets:pair"),
    (["pack", "mynets:pair", "--weights", "w.pt", "--out", "no/y.cgrad"], "mkdir -p no"),
    (["pack", "mynets:pair", "--as-built", "--out", "empty"], "empty is a folder"),
    (["pack", "mynets:relu", "--as-built", "--out", "y.cgrad", "--input", "8"], "ReLU"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=str)
def test_bad_input_is_one_sentence_and_changes_nothing(
    words: list[str], message: str, run: Run
) -> None:
    Path("runs/example").mkdir(parents=True)
    Path("runs/example/recipe.yaml").write_text("model: mlp\n")
    Path("empty").mkdir()
    torch.save({"a": torch.ones(1)}, "w.pt")
    packed.write("net.cgrad", Program((3,), (Sign(),), {}))
    Path("damaged.cgrad").write_bytes(Path("net.cgrad").read_bytes()[:-9])
    np.save("x.npy", np.ones((2, 3), np.float32))
    np.save("d.npy", np.ones((2, 8)))
    np.savez("x.npz", a=np.ones(3))
    before = {path: path.stat().st_mtime_ns for path in sorted(Path().rglob("*"))}
    done = run(*words)
    assert (done.code, done.out.replace("a user's own words\n", "")) == (1, "")
    assert message in done.said
    assert done.said.startswith("error: ")
    assert "Traceback" not in done.err
    assert max(map(len, done.err.splitlines())) <= 80
    assert {path: path.stat().st_mtime_ns for path in sorted(Path().rglob("*"))} == before


def test_the_kinds(run: Run, tmp_path: Path) -> None:
    Path("a:b").mkdir()
    assert kind_of("a:b") == kind_of(".") == "run"
    assert kind_of("none.cgrad") == "packed"
    assert kind_of("a.b:c") == "function"
    Path("net.bin").write_bytes(b"")
    with pytest.raises(SourceError, match=r"a packed file's name ends in \.cgrad"):
        kind_of("net.bin")


def test_a_function_is_packed_verified_and_summed_up(run: Run) -> None:
    net = run_module().tiny()
    net[1].running_mean += 0.5
    torch.save(net.state_dict(), "w.pt")
    done = run("pack", "mynets:pair", "--weights", "w.pt", "--out", "net.cgrad")
    assert done.code == 0, done.err
    size = Path("net.cgrad").stat().st_size
    assert f"net.cgrad: {size:,} bytes" in done.out
    deploy.pack(net, torch.zeros(1, 8), "expected.cgrad")
    assert Path("net.cgrad").read_bytes() == Path("expected.cgrad").read_bytes()
    done = run("verify", "mynets:pair", "net.cgrad", "--weights", "w.pt", "--images", "70")
    assert done.code == 0, done.err
    assert "on 70 random normal samples, not real data; give your own with --batch" in done.out
    np.save("x.npy", np.ones((5, 8), np.float32))
    done = run("verify", "mynets:pair", "net.cgrad", "--weights", "w.pt", "--batch", "x.npy",
               "--json")  # fmt: skip
    found = json.loads(done.out)
    assert found["on"] == "5 samples of x.npy"
    assert (found["samples"], found["argmax_agreement"], found["differing_bits"]) == (5, 5, 0)
    assert [layer["name"] for layer in found["layers"]] == ["0", "2"]
    assert "a user's own words" in done.err
    done = run("summary", "mynets:tiny", "--weights", "w.pt", "--input", "8", "--json")
    assert json.loads(done.out)["total_bytes"] == size
    assert str(size) in run("summary", "mynets:pair", "--weights", "w.pt").out.replace(",", "")


def run_module():
    """The user's module, as the commands import it."""
    import importlib
    import sys

    sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module("mynets")


def test_a_failed_pack_leaves_the_file_as_it_was(run: Run) -> None:
    Path("net.cgrad").write_bytes(b"precious")
    done = run("pack", "mynets:relu", "--as-built", "--input", "8", "--out", "net.cgrad")
    assert done.code == 1
    assert Path("net.cgrad").read_bytes() == b"precious"


def test_a_run_folder(run: Run, trained: Path) -> None:
    shutil.copytree(trained, "r")
    done = run("pack", "r", "--json")
    assert done.code == 0, done.err
    size = Path("r/model.cgrad").stat().st_size
    assert json.loads(done.out) == {
        "file": "r/model.cgrad", "bytes": size, "float_bytes": 4 * 269_844,
    }  # fmt: skip
    done = run("verify", "r", "--images", "50")
    assert done.code == 0, done.err
    assert done.out.startswith("on 50 test images of digits")
    assert max(map(len, done.out.splitlines())) <= 80
    found = json.loads(run("summary", "r", "--json").out)
    assert (found["source"], found["total_bytes"]) == ("r", size)
    done = run("bench", "r", "--no-peers", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["file"] == "r/model.cgrad"
    Path("r/last.ckpt").write_bytes(b"junk")
    done = run("pack", "r")
    assert done.code == 1
    assert "r/last.ckpt does not hold the weights" in done.said
    assert Path("r/model.cgrad").stat().st_size == size


def test_batches(run: Run, trained: Path) -> None:
    of_run = batch(resolve(str(trained)), None, 20)
    assert (of_run.x.shape, of_run.real) == ((20, 1, 28, 28), True)
    assert of_run.what == "20 test images of digits (1,797 real 8x8 digits, enlarged)"
    own = batch(resolve("mynets:many"), None, 2)
    assert (own.x.tolist(), own.real) == (
        torch.linspace(-1, 1, 24).reshape(3, 8)[:2].tolist(),
        True,
    )
    assert own.what == "2 samples that mynets:many returns"
    drawn = batch(resolve("mynets:pair"), None, 200)
    assert (drawn.x.shape, drawn.real) == ((200, 8), False)
    assert 0.9 < float(drawn.x.std()) < 1.1
    assert torch.equal(drawn.x, batch(resolve("mynets:pair"), None, 200).x)


def test_a_model_comes_in_evaluation_mode(run: Run) -> None:
    assert not resolve("mynets:pair").model.training


def test_the_parts_of_a_model_that_tests_use() -> None:
    assert isinstance(models.mlp()[1], nn.Linear)
    assert quantizers.Sign().bits == 1
