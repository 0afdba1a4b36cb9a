from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from coarsegrad import bench, deploy, models, packed, runtime
from coarsegrad.bench.peers import onnx_runs
from coarsegrad.bench.twin import float_twin
from coarsegrad.packed import (
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Program,
    Relu,
    Sign,
    Threshold,
    pack_bits,
    pack_digits,
    pack_ternary,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "net.cgrad"
    deploy.pack(models.small_cnn(), torch.zeros(1, 1, 28, 28), path)
    return path


def test_medians_order_fast_before_slow() -> None:
    times = bench.medians(
        {"fast": lambda: None, "slow": lambda: time.sleep(2e-4)}, rounds=3, block=2e-3
    )
    assert times["slow"] > 2e-4 > times["fast"] > 0


def test_medians_refuses() -> None:
    with pytest.raises(ValueError, match="needs rounds >= 1, got 0"):
        bench.medians({}, rounds=0)


def test_the_twin_has_the_networks_shapes_and_relus() -> None:
    rng = np.random.default_rng(0)
    ops = (Sign(), Conv("a", (4, 1, 3, 3), groups=2, stride=(2, 1), padding=(1, 0, 2, 1)),
           MaxPool((2, 2)), Threshold("a"), Flatten(), Linear("b", (3, 4 * 2 * 3)))  # fmt: skip
    tensors = {"a.weight": pack_bits(rng.standard_normal(36)), "a.threshold": np.zeros(4, np.int16),
               "b.weight": pack_bits(rng.standard_normal(72))}  # fmt: skip
    program = Program((2, 8, 8), ops, tensors)
    twin = float_twin(program)
    kinds = [type(module).__name__ for module in twin]
    assert kinds == ["ReLU", "ZeroPad2d", "Conv2d", "MaxPool2d", "ReLU", "Flatten", "Linear"]
    assert twin(torch.randn(2, 2, 8, 8)).shape == (2, *program.values[-1].shape)


def test_the_twin_of_averages_and_ternary_weights() -> None:
    rng = np.random.default_rng(0)
    ops = (Conv("a", (4, 2, 3, 3)), Relu(), AvgPool((2, 2)), Sign(), Flatten(),
           Linear("b", (3, 36), low=0))  # fmt: skip
    tensors = {"a.weight": rng.standard_normal((4, 2, 3, 3)).astype(np.float32),
               "b.weight": pack_ternary(rng.integers(-1, 2, 108))}  # fmt: skip
    twin = float_twin(Program((2, 8, 8), ops, tensors))
    kinds = [type(module).__name__ for module in twin]
    assert kinds == ["Conv2d", "ReLU", "AvgPool2d", "ReLU", "Flatten", "Linear"]
    assert set(np.unique(twin[-1].weight * 6)) == {-1, 0, 1}
    assert twin(torch.randn(2, 2, 8, 8)).shape == (2, 3)


def test_the_twin_of_several_bits_has_relus_and_no_tables() -> None:
    rows = np.arange(3, dtype=np.float32)[:, None]
    ops = (Conv("a", (4, 2, 3, 3)), Threshold("a", 2), MaxPool((2, 2)), Levels("a"), Flatten(),
           Linear("b", (3, 36), bits=3))  # fmt: skip
    tensors = {"a.weight": pack_bits(np.ones(72)), "a.threshold": np.repeat(rows, 4, 1),
               "a.levels": np.arange(4, dtype=np.float32),
               "b.weight": pack_digits(np.arange(108) % 7 - 3, 3)}  # fmt: skip
    twin = float_twin(Program((2, 8, 8), ops, tensors))
    kinds = [type(module).__name__ for module in twin]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear"]
    assert sorted(set((twin[-1].weight * 6).flatten().tolist())) == [-3, -2, -1, 0, 1, 2, 3]
    assert twin(torch.randn(2, 2, 8, 8)).shape == (2, 3)


def test_a_file_of_several_bits_is_timed(tmp_path: Path) -> None:
    ops = (Threshold("x", 2), Flatten(), Linear("a", (3, 8), low=0))
    tensors = {"x.threshold": np.zeros((3, 2), np.float32), "a.weight": pack_bits(np.ones(24))}
    packed.write(tmp_path / "net.cgrad", Program((2, 2, 2), ops, tensors))
    found = bench.compare(tmp_path / "net.cgrad", target="numpy", rounds=1)
    assert found.contestants[0].ratio == 1
    assert len(found.contestants) > 1
    assert found.float_size == 4 * 27


def test_the_onnx_twin_computes_what_the_torch_twin_computes(file: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    twin = float_twin(runtime.load(file).program)
    x = np.random.default_rng(0).standard_normal((5, 1, 28, 28)).astype(np.float32)
    runs = onnx_runs(twin, x, 1)
    expected = twin(torch.from_numpy(x)).numpy()
    (floats,) = runs["ONNX Runtime float32"]()  # type: ignore[misc]
    np.testing.assert_allclose(floats, expected, atol=1e-4 * np.abs(expected).max())
    # Of an untrained network 8 bits keep the gist only.
    (int8,) = runs["ONNX Runtime int8"]()  # type: ignore[misc]
    assert np.corrcoef(int8.ravel(), expected.ravel())[0, 1] > 0.5


def test_compare(file: Path) -> None:
    threads = torch.get_num_threads()
    found = bench.compare(file, batch=2, rounds=2)
    assert found.contestants[0].name == f"coarsegrad {found.target}"
    assert found.contestants[0].ratio == 1
    assert {"torch float32 NCHW", "torch float32 channels_last"} <= {
        contestant.name for contestant in found.contestants
    }
    assert all(c.ratio == c.seconds / found.contestants[0].seconds for c in found.contestants)
    assert found.size == file.stat().st_size
    assert found.float_size > 25 * found.size
    assert len(found.stages) == (0 if found.target == "numpy" else 7)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("bad", [{"batch": 0}, {"threads": 0}, {"rounds": 0}])
def test_compare_refuses(file: Path, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"needs \w+ >= 1, got 0"):
        bench.compare(file, peers=False, **bad)


def test_the_command(file: Path) -> None:
    command = [sys.executable, "-m", "coarsegrad.cli", "bench", str(file), "--no-peers", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["batch"] == found["threads"] == 1
    assert [c["ratio"] for c in found["contestants"]] == [1]
    done = subprocess.run([*command[:-2], "--target", "neon"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert "there is no target 'neon'" in done.stderr


def test_numpy_target_has_no_stages(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", Program((3,), (Sign(),), {}))
    found = bench.compare(tmp_path / "net.cgrad", target="numpy", peers=False, rounds=1)
    assert (found.target, found.stages, found.chunk) == ("numpy", [], 0)
