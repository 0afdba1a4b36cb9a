"""`pip install .` and the wheel: no torch, no extras, no compiler; the command line predicts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from coarsegrad import deploy, models, runtime

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("native", ["ON", "OFF"])
def test_installed_without_torch_it_predicts(native: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(python), *arguments], capture_output=True, text=True,
                              check=False, cwd=tmp_path, env=environment)  # fmt: skip

    done = run("-m", "pip", "install", "-q", str(ROOT), "-C",
               f"cmake.define.COARSEGRAD_NATIVE={native}", "-C",
               f"build-dir={tmp_path / 'build'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run("-c", "import torch").returncode != 0
    has_native = run("-c", "import coarsegrad._native").returncode == 0
    assert has_native == (native == "ON")

    deploy.pack(models.small_cnn(), torch.zeros(1, 1, 28, 28), tmp_path / "net.cgrad")
    x = np.random.default_rng(0).integers(-128, 128, (5, 1, 28, 28)).astype(np.float32) / 128
    np.save(tmp_path / "x.npy", x)
    done = run("-m", "coarsegrad.cli", "predict", "net.cgrad", "x.npy")
    assert done.returncode == 0, done.stderr
    expected = runtime.load(tmp_path / "net.cgrad")(x).argmax(1)
    assert [int(line) for line in done.stdout.split()] == expected.tolist()
    recipe = run("-c", "import coarsegrad, pathlib; print(*sorted(f.name for f in "
                 "(pathlib.Path(coarsegrad.__file__).parent / 'recipes').iterdir()))")  # fmt: skip
    assert "mnist_small_cnn.yaml" in recipe.stdout, recipe.stderr
    assert sys.version_info[:2] >= (3, 10)


@pytest.mark.slow
def test_the_wheel_needs_neither_compiler_nor_torch(tmp_path: Path) -> None:
    """What `make wheel` builds, in an empty environment whose PATH holds nothing but itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-{python}-{python}-{platform}.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "packed/spec.md", "recipes/mnist_small_cnn.yaml", "cli/doctor.py"):
        assert f"coarsegrad/{name}" in inside
    assert not [name for name in inside if name.startswith(("tests", "native", "benchmarks"))]

    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / "bin"
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC", "CXX", "COLUMNS")},
        "PATH": str(bin_folder),
    }
    assert not [c for c in ("cc", "gcc", "c++", "g++", "cmake", "ninja", "make")
                if shutil.which(c, path=environment["PATH"])]  # fmt: skip

    def run(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(bin_folder / command), *arguments], capture_output=True,
                              text=True, check=False, cwd=tmp_path, env=environment)  # fmt: skip

    done = run("python", "-m", "pip", "install", "-q", "--only-binary", ":all:", str(wheel))
    assert done.returncode == 0, done.stderr
    assert run("python", "-c", "import torch").returncode != 0
    done = run("coarsegrad", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["runtime"]["native"] is not None
    assert found["runtime"]["self_test"].startswith("passed")
    assert [entry["extra"] for entry in found["missing"]] == ["torch", "train", "export"]
    done = run("coarsegrad", "doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install 'coarsegrad[torch]'" in done.stdout

    deploy.pack(models.small_cnn(), torch.zeros(1, 1, 28, 28), tmp_path / "net.cgrad")
    x = np.random.default_rng(0).integers(-128, 128, (5, 1, 28, 28)).astype(np.float32) / 128
    np.save(tmp_path / "x.npy", x)
    done = run("coarsegrad", "predict", "net.cgrad", "x.npy")
    assert (done.returncode, done.stderr) == (0, "")
    expected = runtime.load(tmp_path / "net.cgrad")(x).argmax(1)
    assert [int(line) for line in done.stdout.split()] == expected.tolist()
    done = run("coarsegrad", "summary", "net.cgrad")
    assert f"{(tmp_path / 'net.cgrad').stat().st_size:,}" in done.stdout
    done = run("coarsegrad", "pack", "absent:net", "--as-built", "--out", "y.cgrad")
    assert done.returncode == 1
    assert "pip install 'coarsegrad[train]'" in done.stderr
