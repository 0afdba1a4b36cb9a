"""`pip install .` alone: no torch, no extras; the command line predicts."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
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
