from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coarsegrad import runtime
from coarsegrad.errors import InputError
from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Op,
    Program,
    Relu,
    Sign,
    Threshold,
    pack_bits,
    pack_ternary,
    write,
)
from coarsegrad.runtime import Model, reference


def run(op: Op, x: np.ndarray, **tensors: np.ndarray) -> np.ndarray:
    return reference.apply(op, x, {f"a.{key}": value for key, value in tensors.items()})


GEOMETRIES = [
    Conv("a", (6, 4, 3, 3)),
    Conv("a", (6, 4, 3, 3), padding=(1, 1, 1, 1)),
    Conv("a", (6, 4, 3, 3), padding=(2, 0, 1, 2), pad=1),
    Conv("a", (6, 4, 2, 3), stride=(2, 3), padding=(1, 2, 0, 1), pad=-1),
    Conv("a", (6, 4, 3, 2), dilation=(2, 3), padding=(4, 0, 0, 3)),
    Conv("a", (6, 2, 3, 3), groups=2),
    Conv("a", (8, 1, 3, 3), groups=4, stride=(1, 2)),
]


@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.parametrize("op", GEOMETRIES, ids=str)
def test_conv_is_torchs(op: Conv, bits: bool) -> None:
    rng = np.random.default_rng(0)
    w = rng.choice([-1.0, 1.0], op.shape).astype(np.float32)
    x = rng.choice([-1, 1], (3, 4, 9, 10)).astype(np.int8 if bits else np.float32)
    top, left, bottom, right = op.padding
    padded = F.pad(torch.from_numpy(x).float(), (left, right, top, bottom), value=op.pad)
    expected = F.conv2d(padded, torch.from_numpy(w), None, op.stride, 0, op.dilation, op.groups)
    assert np.array_equal(run(op, x, weight=pack_bits(w)), expected.numpy())
    assert np.array_equal(run(op, x, weight=w), expected.numpy())


@pytest.mark.parametrize("pad", [0, 1, -1])
def test_bits_of_zero_and_one(pad: int) -> None:
    rng = np.random.default_rng(0)
    op = Conv("a", (6, 4, 3, 3), padding=(1, 0, 2, 1), pad=pad, low=0)
    x = rng.choice([-1, 1], (3, 4, 6, 7)).astype(np.int8)
    w = rng.choice([-1.0, 0.0, 1.0], op.shape).astype(np.float32)
    padded = F.pad(torch.from_numpy((x > 0).astype(np.float32)), (0, 1, 1, 2), value=pad)
    expected = F.conv2d(padded, torch.from_numpy(w)).numpy()
    assert np.array_equal(run(op, x, weight=pack_ternary(w)), expected)
    dense = Linear("a", (6, 36), low=0)
    flat = run(dense, x.reshape(14, 36), weight=pack_ternary(w))
    assert np.array_equal(flat, (x > 0).reshape(14, 36) @ w.reshape(6, 36).T)


AVERAGES = [AvgPool((2, 2)), AvgPool((3, 2), stride=(1, 2), padding=(1, 1)), AvgPool((7, 8))]


@pytest.mark.parametrize("op", AVERAGES, ids=str)
def test_avgpool_is_torchs(op: AvgPool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 8)).astype(np.float32)
    expected = F.avg_pool2d(torch.from_numpy(x), op.size, op.step, op.padding)
    assert np.array_equal(run(op, x), expected.numpy())
    bits = np.where(x < 0, -1, 1).astype(np.int8)
    pooled = F.avg_pool2d(torch.from_numpy(bits).float(), op.size, op.step, op.padding)
    assert np.array_equal(run(op, bits), pooled.numpy())
    assert run(op, bits).dtype == np.float32


def test_relu_and_an_affine_on_bits() -> None:
    x = np.array([[-2.0, -0.0, 0.0, 3.0]], np.float32)
    assert run(Relu(), x).tolist() == [[0, 0, 0, 3]]
    assert not np.signbit(run(Relu(), x)).any()
    half = np.full((2, 4), 0.5, np.float32)
    y = run(Affine("a"), np.array([[-1, 1, 1, -1]], np.int8), affine=half)
    assert (y.tolist(), y.dtype) == ([[0, 1, 1, 0]], np.float32)


POOLS = [
    MaxPool((2, 2)),
    MaxPool((3, 2), stride=(1, 2), padding=(1, 1)),
    MaxPool((2, 3), dilation=(2, 1), stride=(1, 1)),
]


@pytest.mark.parametrize("op", POOLS, ids=str)
def test_maxpool_is_torchs(op: MaxPool) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 8)).astype(np.float32) - 3
    expected = F.max_pool2d(torch.from_numpy(x), op.size, op.step, op.padding, op.dilation)
    assert np.array_equal(run(op, x), expected.numpy())
    signs = np.where(x < -3, -1, 1).astype(np.int8)
    pooled = F.max_pool2d(torch.from_numpy(signs).float(), op.size, op.step, op.padding,
                          op.dilation)  # fmt: skip
    assert np.array_equal(run(op, signs), pooled.numpy())


def test_threshold_rows() -> None:
    s = np.array([[-2, 0, 1, 5]], np.float32).repeat(4, 0).T  # four samples, four channels
    t = np.array([0, 0, -6, 6], np.int16)
    bits = run(Threshold("a"), s, threshold=t, flip=np.array([0b0010], np.uint8))
    assert bits.T.tolist() == [[-1, 1, 1, 1], [1, 1, -1, -1], [1, 1, 1, 1], [-1, -1, -1, -1]]
    assert bits.dtype == np.int8


def test_affine_and_sign_and_flatten() -> None:
    s = np.array([[[1.0, 2.0]], [[3.0, -0.0]]], np.float32)[None].reshape(1, 2, 1, 2)
    y = run(Affine("a"), s, affine=np.array([[2, -1], [0.5, 0]], np.float32))
    assert y.tolist() == [[[[2.5, 4.5]], [[-3.0, 0.0]]]]
    assert run(Flatten(), y).tolist() == [[2.5, 4.5, -3.0, 0.0]]
    assert run(Sign(), run(Flatten(), y)).tolist() == [[1, 1, -1, 1]]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    program = Program(
        (2, 4),
        (Flatten(), Sign(), Linear("a", (3, 8)), Affine("a")),
        {"a.weight": pack_bits(np.arange(24) % 3 - 1.0), "a.affine": np.ones((2, 3), np.float32)},
    )
    write(tmp_path / "net.cgrad", program)
    return runtime.load(tmp_path / "net.cgrad")


def test_call_and_trace(model: Model) -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 4)).astype(np.float32)
    y = model(x)
    trace = model.trace(x)
    assert (y.shape, y.dtype) == ((5, 3), np.float32)
    assert list(trace) == ["0:flatten", "1:sign", "2:linear a", "3:affine a"]
    assert np.array_equal(trace["3:affine a"], y)
    assert set(np.unique(trace["1:sign"])) == {-1, 1}
    assert np.array_equal(trace["2:linear a"] + 1, y)


def test_batches_of_any_size_and_layout(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((10, 2, 8)).astype(np.float32)[:, :, ::2]
    whole = model(x)
    monkeypatch.setattr("coarsegrad.runtime.model._CHUNK", 24)
    assert np.array_equal(model(x), whole)
    assert np.array_equal(model(x[3:4]), whole[3:4])
    assert model(x[:0]).shape == (0, 3)


BAD_INPUTS = [
    (np.zeros((2, 3, 4), np.float32), r"needs float32 of shape \(N, 2, 4\), got shape \(2, 3, 4\)"),
    (np.zeros((), np.float32), r"got shape \(\)"),
    (np.zeros((2, 2, 4)), "got float64 array; prepare it"),
    (np.zeros((2, 2, 4), np.uint8), "got uint8 array"),
    ([[1.0]], "got list"),
    (np.full((1, 2, 4), np.nan, np.float32), r"needs finite numbers, got nan at index \[0, 0, 0\]"),
    (np.full((1, 2, 4), np.inf, np.float32), "got inf at index"),
]


@pytest.mark.parametrize(("x", "message"), BAD_INPUTS, ids=range(len(BAD_INPUTS)))
def test_refuses(model: Model, x, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(x)
    with pytest.raises(InputError, match=message):
        model.trace(x)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.cgrad"):
        runtime.load(tmp_path / "none.cgrad")
