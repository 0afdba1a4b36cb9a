from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from coarsegrad import deploy, models, packed
from coarsegrad.data import digits, pixels
from coarsegrad.packed import Program, Sign

COMMAND = [sys.executable, "-m", "coarsegrad.cli"]


def run(*arguments: str, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def test_train_pack_verify_predict(tmp_path: Path) -> None:
    settings = [f"--set={pair}" for pair in ("model=mlp", "epochs=3", "batch_size=64")]
    done = run("train", "digits_small_cnn", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3: loss" in done.stdout
    assert "test accuracy" in done.stdout
    assert "next: coarsegrad pack runs/digits_small_cnn" in done.stdout
    folder = "runs/digits_small_cnn"
    done = run("pack", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / folder / "model.cgrad").stat().st_size
    assert f"{size:,} bytes" in done.stdout
    done = run("verify", folder, "--images", "50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "50 samples on " in done.stdout
    x = pixels(digits("test").x[:9])
    np.save(tmp_path / "x.npy", x)
    done = run("predict", f"{folder}/model.cgrad", "x.npy", "--out", "y.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels = [int(line) for line in done.stdout.split()]
    assert labels == np.load(tmp_path / "y.npy").argmax(1).tolist()
    assert len(labels) == 9
    done = run("train", "digits_small_cnn", *settings, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "holds a run already" in done.stderr


def test_seeds_in_one_command(tmp_path: Path) -> None:
    done = run("train", "digits_small_cnn", "--set", "model=mlp", "--set", "epochs=1",
               "--seeds", "2", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 seeds: mean" in done.stdout
    assert (tmp_path / "runs/digits_small_cnn-seed1/last.ckpt").is_file()


def test_predict_needs_no_torch(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    np.save(tmp_path / "x.npy", np.array([[-1, 2, -1]], np.float32))
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['coarsegrad', 'predict', "
        f"{str(tmp_path / 'net.cgrad')!r}, {str(tmp_path / 'x.npy')!r}]\n"
        "from coarsegrad.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_without_the_train_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['coarsegrad', 'pack', 'runs/x']\n"
        "from coarsegrad.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'coarsegrad[train]'" in done.stderr


BAD = [
    (["pack", "nowhere"], 1, "error: nowhere needs to be a run folder"),
    (["verify", "nowhere"], 1, "error: nowhere needs to be a run folder"),
    (["predict", "none.cgrad", "x.npy"], 1, "error: [Errno 2] No such file"),
    (["train", "mnist_smal_cnn"], 1, "Did you mean 'mnist_small_cnn'"),
    (["train", "mnist_small_cnn", "--set", "epoch=3"], 1, "unknown key 'epoch'. Did you mean"),
    (["train", "mnist_small_cnn", "--set", "epochs"], 2, "needs KEY=VALUE"),
    (["train", "mnist_small_cnn", "--set", "ste=[a"], 2, "is not YAML"),
    (["train", "mnist_small_cnn", "--seeds", "2", "--set", "seed=3"], 2, "exclude each other"),
    (["fly"], 2, "No such command 'fly'"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=str)
def test_errors(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00\x76\x00{"])
def test_predict_refuses_what_is_no_array(content: bytes, tmp_path: Path) -> None:
    deploy.pack(models.mlp(), torch.zeros(1, 1, 28, 28), tmp_path / "net.cgrad")
    (tmp_path / "x.npy").write_bytes(content)
    done = run("predict", "net.cgrad", "x.npy", cwd=tmp_path)
    assert done.returncode == 1
    assert "x.npy is not an array that numpy.save wrote" in done.stderr


def test_predict_refuses_a_damaged_file(tmp_path: Path) -> None:
    deploy.pack(models.mlp(), torch.zeros(1, 1, 28, 28), tmp_path / "net.cgrad")
    data = bytearray((tmp_path / "net.cgrad").read_bytes())
    data[-1] ^= 1
    (tmp_path / "net.cgrad").write_bytes(data)
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 28, 28), np.float32))
    done = run("predict", "net.cgrad", "x.npy", cwd=tmp_path)
    assert done.returncode == 1
    assert "net.cgrad: its checksum is" in done.stderr


@pytest.mark.parametrize("content", [["thesis.txt"], ["recipe.yaml", "last.ckpt"], ["last.ckpt"]])
def test_demo_keeps_folders_that_are_not_its_own(content: list[str], tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    for name in content:
        (tmp_path / "precious" / name).write_text("seed: 99" if name == "recipe.yaml" else "")
    done = run("demo", "--run", "precious", cwd=tmp_path)
    assert done.returncode == 2
    assert sorted(file.name for file in (tmp_path / "precious").iterdir()) == sorted(content)


def test_damaged_mnist_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "mnist" / f"{name}-ubyte.gz").write_bytes(b"junk")
    done = run("demo", cwd=tmp_path, COARSEGRAD_DATA=str(tmp_path))
    assert done.returncode == 1
    assert "train-images-idx3-ubyte.gz" in done.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*COMMAND, "train", "digits_small_cnn", "--set", "checkpoint_every=1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    while not (tmp_path / "runs/digits_small_cnn/last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "interrupted; go on with the same command and --resume" in said
    assert not list((tmp_path / "runs/digits_small_cnn").glob("*.part"))


def test_predict_of_no_samples_and_into_a_folder(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    np.save(tmp_path / "x.npy", np.zeros((0, 3), np.float32))
    done = run("predict", "net.cgrad", "x.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = run("predict", "net.cgrad", "x.npy", "--out", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert "is a folder; a file is to be written here" in done.stderr


def fastest(*arguments: str, tries: int = 7) -> float:
    times = []
    for _ in range(tries):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.mark.slow
def test_quick_to_start() -> None:
    """Ratios to an empty Python with numpy, since these machines are noisy."""
    numpy_alone = fastest("-c", "import numpy")
    help_ = fastest("-m", "coarsegrad.cli", "--help")
    runtime = fastest("-c", "import coarsegrad.runtime")
    print(f"--help {help_:.3f} s, import runtime {runtime:.3f} s, import numpy {numpy_alone:.3f} s")
    assert help_ < 5 * numpy_alone
    assert runtime < 2.5 * numpy_alone
