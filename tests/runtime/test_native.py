"""The native executor against its definition, the numpy executor."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from coarsegrad import deploy, models, packed, runtime
from coarsegrad.errors import TargetError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Program,
    Relu,
    Sign,
    Threshold,
    pack_bits,
    runs_on_bits,
    write,
)
from coarsegrad.runtime import Model
from nets import networks, randomise_norms, signs, weights

pytest.importorskip("coarsegrad._native")
NATIVE = [target.name for target in runtime.targets() if target.runs and target.name != "numpy"]
targets = pytest.mark.parametrize("target", NATIVE)


def small_cnn() -> Program:
    torch.manual_seed(0)
    net = models.small_cnn()
    randomise_norms(net, torch.Generator().manual_seed(1))
    return deploy.to_program(net, torch.zeros(1, 1, 28, 28)).program


def images(count: int, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(-128, 128, (count, 1, 28, 28))
    return pixels.astype(np.float32) / 128


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_every_target_equals_numpy_on_random_networks(
    network: tuple[nn.Sequential, torch.Tensor],
) -> None:
    net, x = network
    program = deploy.to_program(net, x).program
    expected = Model(program, target="numpy")(x.numpy())
    for target in NATIVE:
        assert np.array_equal(Model(program, target=target)(x.numpy()), expected), target


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_the_kernel_that_is_announced_runs(network: tuple[nn.Sequential, torch.Tensor]) -> None:
    net, x = network
    program = deploy.to_program(net, x).program
    announced = [
        runs_on_bits(program, i)
        for i, op in enumerate(program.ops)
        if isinstance(op, (Conv, packed.Linear))
    ]
    names = [name for name, _ in Model(program, target=NATIVE[0]).stage_times(x.numpy(), 1)[0]]
    assert sum(name.startswith("bit layer") for name in names) == sum(announced)


@targets
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 40)])
def test_floats_through_relu_and_averages_are_numpys(target: str, size: tuple[int, int]) -> None:
    """No order of summation is left open: native results equal numpy's to the bit."""
    rng = np.random.default_rng(0)
    window = (min(3, size[0]), min(2, size[1]))
    ops = (Affine("a"), Relu(), AvgPool(window, (1, 1), tuple(n // 2 for n in window)),
           Sign(), AvgPool((1, 1)), Affine("b"), Relu(), Flatten(), Relu())  # fmt: skip
    tensors = {f"{name}.affine": rng.standard_normal((2, 5)).astype(np.float32) for name in "ab"}
    for program in (Program((5, *size), ops, tensors),
                    Program((5, *size), ops[:3], {"a.affine": tensors["a.affine"]})):  # fmt: skip
        x = rng.standard_normal((70, 5, *size)).astype(np.float32)
        expected = Model(program, target="numpy")(x)
        for threads in (1, 3):
            got = Model(program, target=target, threads=threads)(x)
            assert np.array_equal(got, expected)


@targets
def test_flattened_bits_become_floats(target: str) -> None:
    rng = np.random.default_rng(0)
    ops = (Sign(), Flatten(), Affine("a"), packed.Linear("b", (3, 24)))
    tensors = {"a.affine": rng.integers(-3, 4, (2, 24)).astype(np.float32),
               "b.weight": rng.integers(-3, 4, (3, 24)).astype(np.float32)}  # fmt: skip
    program = Program((2, 3, 4), ops, tensors)
    x = rng.standard_normal((5, 2, 3, 4)).astype(np.float32)
    assert np.array_equal(Model(program, target=target)(x), Model(program, target="numpy")(x))


@targets
@pytest.mark.parametrize("name", ["small_cnn", "mlp"])
def test_verify_on_every_target(name: str, target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = getattr(models, name)()
    randomise_norms(net, torch.Generator().manual_seed(1))
    x = torch.from_numpy(images(300))
    deploy.pack(net, x, tmp_path / "net.cgrad")
    report = deploy.verify(net, tmp_path / "net.cgrad", x, target=target)
    assert report.differing_bits == 0
    assert report.argmax_agreement == 300
    assert report.target == target


def float_first_and_last() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 40, 5, stride=2, padding=2), nn.BatchNorm2d(40),
        Conv2d(40, 33, 3, padding=1, input_quantizer=signs(), weight_quantizer=weights("channel")),
        nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(33),
        Conv2d(33, 16, 3, groups=1, padding=2, dilation=2, pad_value=-1, input_quantizer=signs(),
               weight_quantizer=weights("none")),
        nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16 * 25, 7),
    )  # fmt: skip


@targets
def test_float_layers_agree_to_rounding(target: str) -> None:
    torch.manual_seed(0)
    net = float_first_and_last()
    x = torch.randn(4, 3, 19, 19)
    program = deploy.to_program(net, x).program
    expected = Model(program, target="numpy")(x.numpy())
    np.testing.assert_allclose(Model(program, target=target)(x.numpy()), expected, rtol=1e-4,
                               atol=1e-4)  # fmt: skip


@targets
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_any_batch_and_any_number_of_threads(target: str, threads: int, count: int) -> None:
    program = small_cnn()
    x = images(count)
    expected = Model(program, target="numpy")(x)
    got = Model(program, target=target, threads=threads)(x)
    assert got.shape == (count, 10)
    assert np.array_equal(got, expected)


@targets
def test_inputs_of_any_layout(target: str) -> None:
    program = small_cnn()
    model = Model(program, target=target)
    wide = np.random.default_rng(0).integers(-128, 128, (6, 1, 28, 56)).astype(np.float32) / 128
    expected = model(np.ascontiguousarray(wide[..., ::2]))
    assert np.array_equal(model(wide[..., ::2]), expected)
    assert np.array_equal(model(wide[::-1, ..., ::2]), expected[::-1])
    raw = bytearray(4 * 6 * 784 + 1)
    odd = np.frombuffer(raw, np.float32, 6 * 784, offset=1).reshape(6, 1, 28, 28)
    odd[:] = wide[..., ::2]
    assert not odd.flags.aligned
    assert np.array_equal(model(odd), expected)
    frozen = np.ascontiguousarray(wide[..., ::2])
    frozen.flags.writeable = False
    assert np.array_equal(model(frozen), expected)


@targets
def test_eight_threads_on_one_model(target: str) -> None:
    model = Model(small_cnn(), target=target, threads=2)
    batches = [images(1 + 9 * i, seed=i) for i in range(8)]
    expected = [model(batch) for batch in batches]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(model(batches[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_fastest_target_is_the_default_and_the_environment_forces_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COARSEGRAD_TARGET", raising=False)
    program = small_cnn()
    assert Model(program).target == NATIVE[-1]
    monkeypatch.setenv("COARSEGRAD_TARGET", "generic")
    assert Model(program).target == "generic"
    monkeypatch.setenv("COARSEGRAD_TARGET", "numpy")
    assert Model(program).target == "numpy"
    monkeypatch.setenv("COARSEGRAD_TARGET", "avx3")
    with pytest.raises(TargetError, match=r"there is no target 'avx3'\. Did you mean 'avx2'"):
        Model(program)


def test_unknown_and_absent_targets() -> None:
    with pytest.raises(TargetError, match=r"there is no target 'neon'. Targets here: numpy, "):
        Model(small_cnn(), target="neon")
    absent = [target.name for target in runtime.targets() if not target.runs]
    for name in absent:
        with pytest.raises(TargetError, match=f"'{name}' does not run on this machine: .* lacks"):
            Model(small_cnn(), target=name)


def test_targets_say_what_runs_and_why_not() -> None:
    found = runtime.targets()
    assert [target.name for target in found[:3]] == ["numpy", "generic", "popcnt"]
    assert all(target.runs == (not target.reason) for target in found)


def test_threads_below_one() -> None:
    with pytest.raises(ValueError, match="needs threads >= 1, got 0"):
        Model(small_cnn(), threads=0)


def test_one_small_file_cannot_claim_the_machine() -> None:
    side = 2**14
    program = Program((1, side, side), (Sign(),), {})
    with pytest.raises(TargetError, match=r"no room for its values|room for its values.*MiB"):
        Model(program, target=NATIVE[0])
    with pytest.warns(RuntimeWarning, match="room for its values.*this network runs in numpy"):
        assert Model(program).target == "numpy"


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
import coarsegrad.runtime as runtime
model = runtime.load(sys.argv[1])
x = np.zeros((4, 1, 28, 28), np.float32)
before = model(x)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
failed = 0
try:
    keep = [runtime.load(sys.argv[2]) for _ in range(50)]
except MemoryError:
    failed += 1
try:
    model(np.broadcast_to(x[:1], (10_000_000, 1, 28, 28)))
except MemoryError:
    failed += 1
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert np.array_equal(model(x), before)
print("failed", failed)
"""


def test_out_of_memory_is_an_error_and_the_model_stays_usable(tmp_path: Path) -> None:
    write(tmp_path / "small.cgrad", small_cnn())
    rng = np.random.default_rng(0)
    wide = Program(
        (512, 64, 64),
        (Sign(), Conv("a", (512, 512, 3, 3)), Threshold("a"), Flatten()),
        {"a.weight": pack_bits(rng.standard_normal(512 * 512 * 9)),
         "a.threshold": np.zeros(512, np.int16)},
    )  # fmt: skip
    write(tmp_path / "wide.cgrad", wide)
    command = [sys.executable, "-c", OUT_OF_MEMORY, str(tmp_path / "small.cgrad"),
               str(tmp_path / "wide.cgrad")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})  # fmt: skip
    assert done.stdout == "failed 2\n", done.stderr


WITHOUT_NATIVE = """
import sys, warnings
sys.modules['coarsegrad._native'] = None
import numpy as np
import coarsegrad.runtime as runtime
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('default')
    models = [runtime.load(sys.argv[1]) for _ in range(3)]
print(len(said), said[0].message)
print(models[0].target, [target.name for target in runtime.targets()])
np.save(sys.argv[2], models[0](np.load(sys.argv[3])))
"""


def test_without_the_native_module_numpy_runs_and_it_is_said_once(tmp_path: Path) -> None:
    write(tmp_path / "net.cgrad", small_cnn())
    np.save(tmp_path / "x.npy", images(5))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NATIVE, str(tmp_path / "net.cgrad"),
         str(tmp_path / "y.npy"), str(tmp_path / "x.npy")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1 the native module is not built into this install")
    assert lines[1] == "numpy ['numpy']"
    assert np.array_equal(
        np.load(tmp_path / "y.npy"), runtime.load(tmp_path / "net.cgrad")(images(5))
    )


@targets
def test_two_dimensional_and_flat_inputs(target: str) -> None:
    torch.manual_seed(0)
    for shape in ((12,), (3, 4)):
        net = nn.Sequential(nn.Flatten(), Linear(12, 5, input_quantizer=signs(),
                            weight_quantizer=weights("none")), nn.BatchNorm1d(5))  # fmt: skip
        x = torch.randn(3, *shape)
        program = deploy.to_program(net, x).program
        expected = Model(program, target="numpy")(x.numpy())
        assert np.array_equal(Model(program, target=target)(x.numpy()), expected)
