"""The numpy executor on cells and weights of 2 to 8 bits: the definition, against torch's ops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Op,
    Program,
    Threshold,
    pack_bits,
    pack_digits,
    pack_ternary,
    runs_on_bits,
)
from coarsegrad.runtime import Model, reference, targets
from runtime.random_programs import random_program

NATIVE = [target.name for target in targets() if target.runs and target.name != "numpy"]


def run(op: Op, x: np.ndarray, **tensors: np.ndarray) -> np.ndarray:
    return reference.apply(op, x, {f"a.{key}": value for key, value in tensors.items()})


def cells(bits: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 2**bits, shape).astype(np.uint8)


WEIGHTS = {
    "binary": (lambda rng, shape: rng.choice([-1, 1], shape), pack_bits, {}),
    "ternary": (lambda rng, shape: rng.integers(-1, 2, shape), pack_ternary, {}),
    "2 bits": (lambda rng, shape: rng.integers(-1, 2, shape), lambda w: pack_digits(w, 2),
               {"bits": 2}),
    "8 bits": (lambda rng, shape: rng.integers(-127, 128, shape), lambda w: pack_digits(w, 8),
               {"bits": 8}),
    "3 bits, odd": (lambda rng, shape: 2 * rng.integers(-4, 4, shape) + 1,
                    lambda w: pack_digits(w, 3, odd=True), {"bits": 3, "odd": True}),
    "float": (lambda rng, shape: rng.integers(-9, 9, shape) / 8, lambda w: w.astype(np.float32),
              {}),
}  # fmt: skip


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("form", WEIGHTS)
def test_layers_take_cells_as_the_integers_they_are(form: str, bits: int) -> None:
    make, store, keys = WEIGHTS[form]
    op = Conv("a", (6, 2, 3, 2), stride=(2, 1), padding=(1, 0, 2, 1), groups=2, low=0, **keys)
    w, x = make(np.random.default_rng(0), op.shape), cells(bits, 3, 4, 6, 7)
    padded = F.pad(torch.from_numpy(x).double(), (0, 1, 1, 2))
    expected = F.conv2d(padded, torch.from_numpy(w).double(), None, (2, 1), groups=2).numpy()
    got = run(op, x, weight=store(w))
    assert got.dtype == np.float32
    assert np.array_equal(got, expected)
    dense = Linear("a", (3, 24), low=0, **keys)
    flat = run(dense, x.reshape(21, 24), weight=store(w.reshape(3, 24)))
    assert np.array_equal(flat, x.reshape(21, 24).astype(np.float64) @ w.reshape(3, 24).T)


def test_a_level_is_how_many_thresholds_a_sum_passes() -> None:
    s = np.array([[-2, 0, 1, 5]], np.float32).repeat(3, 0).T  # four samples, three channels
    t = np.array([[0, 1, -9], [1, -1, 9], [6, -1, 9]], np.int16)
    levels = run(Threshold("a", 2), s, threshold=t, flip=np.array([0b010], np.uint8))
    assert levels.T.tolist() == [[0, 1, 2, 2], [3, 1, 1, 0], [1, 1, 1, 1]]
    assert levels.dtype == np.uint8


def test_float_thresholds_may_be_infinite() -> None:
    s = np.array([[-3e38, 0.0, 3e38]], np.float32).T
    t = np.array([[-np.inf], [0.0], [np.inf]], np.float32)
    assert run(Threshold("a", 2), s, threshold=t)[:, 0].tolist() == [1, 2, 2]
    up = run(Threshold("a", 2), s, threshold=-t, flip=np.array([1], np.uint8))
    assert up[:, 0].tolist() == [2, 2, 1]


def test_integer_thresholds_beyond_what_float32_holds() -> None:
    s = np.array([[2.0**24]], np.float32)
    t = np.array([[2**24], [2**24 + 1], [2**24 + 1]], np.int32)
    assert run(Threshold("a", 2), s, threshold=t).tolist() == [[1]]


def test_255_thresholds() -> None:
    s = np.arange(-3, 300, dtype=np.float32)[:, None]
    t = np.arange(1, 256, dtype=np.int16)[:, None]
    levels = run(Threshold("a", 8), s, threshold=t)
    assert np.array_equal(levels, s.clip(0, 255))


def test_pools_on_cells() -> None:
    x, pool = cells(8, 2, 3, 5, 6), MaxPool((3, 2), (2, 1), (1, 1))
    largest = run(pool, x)
    expected = F.max_pool2d(torch.from_numpy(x).float(), (3, 2), (2, 1), (1, 1))
    assert largest.dtype == np.uint8
    assert np.array_equal(largest, expected.numpy())
    mean = run(AvgPool((2, 2)), x)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, F.avg_pool2d(torch.from_numpy(x).float(), 2).numpy())


def test_floats_of_cells() -> None:
    x = np.array([[0, 3, 2]], np.uint8)
    table = np.array([0, 0.25, 1, 7], np.float32)
    y = run(Levels("a"), x, levels=table)
    assert (y.tolist(), y.dtype) == ([[0, 7, 1]], np.float32)
    y = run(Affine("a"), x, affine=np.array([[2, -1, 0], [0, 1, 5]], np.float32))
    assert (y.tolist(), y.dtype) == ([[0, -2, 5]], np.float32)
    signs = np.array([[-1, 1]], np.int8)
    assert run(Levels("a"), signs, levels=np.array([-3, 5], np.float32)).tolist() == [[-3, 5]]


def test_a_network_of_cells() -> None:
    rows = np.array([[0.5], [1.5], [2.5]], np.float32)
    ops = (Threshold("x", 2), Flatten(), Linear("a", (2, 4), low=0, bits=4), Threshold("a", 3))
    w = np.array([[1, -2, 3, 4], [7, 0, 0, -7]])
    steps = np.arange(-3, 11, 2, dtype=np.int16)[:, None]
    tensors = {"x.threshold": rows, "a.weight": pack_digits(w, 4),
               "a.threshold": steps.repeat(2, 1)}  # fmt: skip
    program = Program((1, 2, 2), ops, tensors)
    x = np.array([[[[0.2, 1.0], [2.0, 9.0]]]], np.float32)  # levels 0, 1, 2, 3: sums 16, -21
    model = Model(program, target="numpy")
    assert model(x).tolist() == [[7, 0]]
    assert [v.dtype for v in model.trace(x).values()] == ["uint8", "uint8", "float32", "uint8"]
    assert model.run(2, 4, np.array([[0, 1, 2, 3]], np.uint8)).tolist() == [[7, 0]]
    part = Model(program.part(2, 4), target="numpy")
    assert part(np.array([[0, 1, 2, 3]], np.float32)).tolist() == [[7, 0]]


@pytest.mark.parametrize("start", range(0, 120, 40))
def test_native_equals_numpy_on_random_programs(start: int) -> None:
    if not NATIVE:
        pytest.skip("the native module is not built")
    for seed in range(start, start + 40):
        program, x = random_program(seed)
        expected = Model(program, target="numpy")(x)
        for target in NATIVE:
            assert np.array_equal(Model(program, target=target)(x), expected), (seed, target)


def test_the_kernel_that_is_announced_runs_on_cells() -> None:
    if not NATIVE:
        pytest.skip("the native module is not built")
    layers = 0
    for seed in range(120):
        program, x = random_program(seed)
        announced = sum(
            runs_on_bits(program, i)
            for i, op in enumerate(program.ops)
            if isinstance(op, Conv | Linear) and program.values[i].bits > 1
        )
        layers += announced
        names = [n for n, _ in Model(program, target=NATIVE[0]).stage_times(x, 1)[0]]
        assert sum(n.startswith("bit layer") for n in names) >= announced
    assert layers > 50


@pytest.mark.parametrize(
    ("bits", "odd", "cell_bits"), [(2, True, 2), (3, False, 3), (4, False, 4), (3, True, 1)]
)
def test_wide_weights_run_on_bits(bits: int, odd: bool, cell_bits: int) -> None:
    if not NATIVE:
        pytest.skip("the native module is not built")
    rng = np.random.default_rng(bits)
    top = 2**bits - 1 if odd else 2 ** (bits - 1) - 1
    numbers = np.arange(-top, top + 1, 2 if odd else 1)

    def digits(*shape: int) -> np.ndarray:
        return pack_digits(rng.choice(numbers, shape), bits, odd=odd)

    def rows(channels: int, spread: float) -> np.ndarray:
        limits = np.sort(rng.normal(0, spread, (2**cell_bits - 1, channels)), axis=0).round()
        return limits[0] if cell_bits == 1 else limits

    keys = {"low": 0, "bits": bits, "odd": odd}
    program = Program(
        (4, 9, 8),
        (
            Conv("a", (32, 4, 3, 3)), Threshold("a", cell_bits),
            Conv("b", (64, 32, 3, 3), padding=(1, 1, 1, 1), **keys), MaxPool((2, 2)),
            Threshold("b", cell_bits), Flatten(), Linear("c", (70, 64 * 3 * 3), **keys),
            Affine("c"),
        ),
        {
            "a.weight": rng.standard_normal((32, 4, 3, 3)).astype(np.float32),
            "a.threshold": rows(32, 40).astype(np.float32) / 8,
            "b.weight": digits(64, 32, 3, 3),
            "b.threshold": rows(64, 8 * top * 2**cell_bits).astype(np.int16),
            "c.weight": digits(70, 64 * 3 * 3),
            "c.affine": rng.standard_normal((2, 70)).astype(np.float32),
        },
    )  # fmt: skip
    assert [runs_on_bits(program, i) for i in (0, 2, 6)] == [False, True, True]
    x = rng.standard_normal((5, 4, 9, 8)).astype(np.float32)
    expected = Model(program, target="numpy")(x)
    for target in NATIVE:
        np.testing.assert_array_equal(Model(program, target=target)(x), expected)
