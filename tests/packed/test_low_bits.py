"""Cells and weights of 2 to 8 bits in the packed file: forms, bytes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors
from hypothesis import given

from coarsegrad import packed
from coarsegrad.errors import PackedFileError
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
    Relu,
    Sign,
    Threshold,
    largest_sum,
    pack_bits,
    pack_digits,
    pack_ternary,
    runs_on_bits,
    unpack_weights,
)
from coarsegrad.packed.program import Value
from coarsegrad.packed.writer import to_bytes


def rows(bits: int, channels: int, dtype: type = np.float32) -> np.ndarray:
    """Thresholds that rise from row to row."""
    return np.arange(2**bits - 1, dtype=dtype)[:, None].repeat(channels, 1)


def example() -> Program:
    """W1A2, then W3A4, then levels."""
    rng = np.random.default_rng(0)
    ops = (
        Threshold("input", bits=2),
        Conv("a", (4, 2, 3, 3), padding=(1, 1, 1, 1), low=0),
        MaxPool((2, 2)),
        Threshold("a", bits=4),
        Flatten(),
        Linear("b", (5, 16), low=0, bits=3),
        Threshold("b", bits=2),
        Linear("c", (3, 5), low=0, bits=2, odd=True),
        Threshold("c", bits=3),
        Levels("c"),
    )
    tensors = {
        "input.threshold": rows(2, 2),
        "a.weight": pack_bits(rng.standard_normal(72)),
        "a.threshold": rows(4, 4, np.int16),
        "b.weight": pack_digits(rng.integers(-3, 4, (5, 16)), 3),
        "b.threshold": rows(2, 5, np.int16) * np.array([1, -1, 2, 0, 1], np.int16),
        "b.flip": np.array([0b01010], np.uint8),
        "c.weight": pack_digits(rng.integers(-2, 2, (3, 5)) * 2 + 1, 2, odd=True),
        "c.threshold": rows(3, 3, np.int32),
        "c.levels": np.array([0, 0.1, 0.4, 1, 2, 3, 5, 8], np.float32),
    }
    return Program((2, 4, 4), ops, tensors)


def test_round_trip(tmp_path: Path) -> None:
    program = example()
    packed.write(tmp_path / "net.cgrad", program)
    back = packed.read(tmp_path / "net.cgrad")
    assert (back.input, back.ops, back.values) == (program.input, program.ops, program.values)
    for name, array in program.tensors.items():
        assert np.array_equal(back.tensors[name], array)
    assert to_bytes(back) == to_bytes(program)


def test_the_json_names_bits_and_odd_only_where_there_are_some(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", example())
    with safetensors.safe_open(tmp_path / "net.cgrad", framework="np") as file:
        graph = json.loads(file.metadata()["coarsegrad"])
    assert graph["version"] == 1
    assert graph["ops"][0] == ["threshold", "input", {"bits": 2}]
    assert graph["ops"][1] == ["conv", "a", {"shape": [4, 2, 3, 3], "padding": [1, 1, 1, 1],
                                             "low": 0}]  # fmt: skip
    assert graph["ops"][5] == ["linear", "b", {"shape": [5, 16], "low": 0, "bits": 3}]
    assert graph["ops"][7] == ["linear", "c", {"shape": [3, 5], "low": 0, "bits": 2, "odd": True}]
    assert graph["ops"][9] == ["levels", "c"]


def test_values_know_their_bits_and_which_sums_are_exact() -> None:
    values = example().values
    assert [value.bits for value in values if value.kind == "bits"] == [2, 4, 4, 2, 3]
    assert all(value.exact for value in values if value.kind == "sums")
    assert values[-1] == Value("floats", (3,))


@given(st.data(), st.integers(2, 8))
def test_digits_round_trip(data: st.DataObject, bits: int) -> None:
    odd = data.draw(st.booleans())
    top = 2**bits - 1 if odd else 2 ** (bits - 1) - 1
    number = st.integers(-(top // 2) - 1, top // 2).map(lambda v: 2 * v + 1)
    levels = data.draw(st.lists(number if odd else st.integers(-top, top), min_size=1, max_size=20))
    op = Linear("a", (1, len(levels)), bits=bits, odd=odd)
    tensors = {"a.weight": pack_digits(np.array(levels), bits, odd=odd)}
    program = Program((len(levels),), (op,), tensors)
    assert program.tensors["a.weight"].shape == (bits, (len(levels) + 7) // 8)
    assert unpack_weights(op, tensors)[0].tolist() == levels
    assert largest_sum(op, tensors, 7) == 7 * np.abs(levels).sum()


def test_the_bytes_of_digits() -> None:
    # -1 is 111 in three digits, 2 is 010, 3 is 011: column by column, lowest digit first.
    assert pack_digits(np.array([-1, 2, 3]), 3).tolist() == [[0b101], [0b111], [0b001]]
    # 3 = 2 * 1 + 1, -3 = 2 * -2 + 1
    assert pack_digits(np.array([3, -3]), 2, odd=True).tolist() == [[0b01], [0b10]]


def exactness(bits: int, op: Linear, weight: np.ndarray) -> bool:
    features = op.shape[1]
    tensors = {"x.threshold": rows(bits, features), "a.weight": weight}
    return Program((features,), (Threshold("x", bits), op), tensors).values[-1].exact


def test_sums_are_exact_up_to_two_to_the_24() -> None:
    n = 2**24 // 255
    assert exactness(8, Linear("a", (1, n), low=0), pack_bits(np.ones(n)))
    assert not exactness(8, Linear("a", (1, n + 1), low=0), pack_bits(np.ones(n + 1)))
    # Weights of 0 count for nothing, the channel with the largest sum decides.
    w = np.ones((2, n + 1))
    w[0, :5] = 0
    assert not exactness(8, Linear("a", (2, n + 1), low=0), pack_ternary(w))
    w[1, :1] = 0
    assert exactness(8, Linear("a", (2, n + 1), low=0), pack_ternary(w))


def test_sums_beyond_are_floats_with_float_thresholds() -> None:
    n = 2**24 // 255 + 1
    ops = (Threshold("x", 8), Linear("a", (1, n), low=0), Threshold("a", 2))
    tensors = {"x.threshold": rows(8, n), "a.weight": pack_bits(np.ones(n)),
               "a.threshold": rows(2, 1)}  # fmt: skip
    program = Program((n,), ops, tensors)
    assert not runs_on_bits(program, 1)
    with pytest.raises(PackedFileError, match=r"to be float32 \[3, 1\], got int32"):
        Program((n,), ops, tensors | {"a.threshold": rows(2, 1, np.int32)})


W = (8, 16, 3, 3)
KERNELS = [
    (Conv("a", W, low=0), pack_bits(np.ones(W)), True),
    (Conv("a", W, low=0, padding=(1, 1, 1, 1)), pack_ternary(np.ones(W)), True),
    (Conv("a", W, low=0), np.ones(W, np.float32), False),
    (Conv("a", W, low=0, bits=2), pack_digits(np.ones(W), 2), False),
    (Conv("a", (8, 8, 3, 3), low=0, groups=2), pack_bits(np.ones((8, 8, 3, 3))), True),
    (Conv("a", (8, 4, 3, 3), low=0, groups=4), pack_bits(np.ones((8, 4, 3, 3))), False),
]


@pytest.mark.parametrize(("op", "weight", "expected"), KERNELS, ids=range(len(KERNELS)))
def test_which_layers_run_on_bits(op: Conv, weight: np.ndarray, expected: bool) -> None:
    tensors = {"x.threshold": rows(3, 16), "a.weight": weight}
    program = Program((16, 5, 5), (Threshold("x", 3), op), tensors)
    assert runs_on_bits(program, 1) is expected


def test_weights_of_more_bits_do_not_run_on_bits_of_one() -> None:
    op = Linear("a", (2, 8), bits=4)
    program = Program((8,), (Sign(), op), {"a.weight": pack_digits(np.ones((2, 8)), 4)})
    assert program.values[-1].exact
    assert not runs_on_bits(program, 1)


def test_a_part_begins_with_the_thresholds_of_its_cells() -> None:
    ops = (Threshold("x", 3), Linear("a", (2, 4), low=0), Threshold("a", 2))
    tensors = {"x.threshold": rows(3, 4), "a.weight": pack_bits(np.ones(8)),
               "a.threshold": rows(2, 2, np.int16)}  # fmt: skip
    program = Program((4,), ops, tensors)
    part = program.part(1, 3)
    assert part.ops == (Threshold("input", 3), *ops[1:])
    assert part.values[1:] == program.values[1:]
    assert part.tensors["input.threshold"].T.tolist() == [[0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]] * 4


def test_a_part_names_its_thresholds_as_nobody_else() -> None:
    ops = (Threshold("x", 2), Linear("a", (2, 4), low=0), Threshold("input", 2))
    tensors = {"x.threshold": rows(2, 4), "a.weight": pack_bits(np.ones(8)),
               "input.threshold": rows(2, 2, np.int16)}  # fmt: skip
    part = Program((4,), ops, tensors).part(1, 3)
    assert part.ops[0] == Threshold("input_", 2)
    assert part.tensors["input.threshold"].dtype == np.int16


X = {"x.threshold": rows(2, 3)}
A = {"a.weight": pack_bits(np.ones(3))}
FALLING = rows(2, 3)[::-1].copy()
REFUSED: list[tuple[tuple[Op, ...], dict[str, np.ndarray], str]] = [
    ((Threshold("x", 2), Linear("a", (1, 3))), X | A,
     r"op 1 \(linear 'a'\) needs low 0 and pad 0 for cells of 2 bits, got low -1$"),
    ((Threshold("x", 2),), {"x.threshold": np.zeros(3, np.float32)},
     r"'x.threshold' to be float32 \[3, 3\], got float32 \[3\]"),
    ((Threshold("x"),), X, r"'x.threshold' to be float32 \[3\], got float32 \[3, 3\]"),
    ((Threshold("x", 2),), {"x.threshold": rows(2, 3, np.int16)}, "to be float32 .*, got int16"),
    ((Threshold("x", 2),), {"x.threshold": FALLING},
     "the rows of x.threshold do not rise in channel 0$"),
    ((Threshold("x", 2),), X | {"x.flip": np.array([4], np.uint8)},
     "the rows of x.threshold do not fall in channel 2, whose flip bit is 1"),
    ((Threshold("x", 2),), X | {"x.flip": np.array([8], np.uint8)},
     "bits of x.flip after the last weight are not 0"),
    ((Threshold("x", 2),), {"x.threshold": np.full((3, 3), np.nan, np.float32)}, "holds NaN"),
    ((Threshold("x", 2), Relu()), X, r"op 1 \(relu\) needs sums or floats, got bits \[3\]"),
    ((Threshold("x", 2), Sign()), X, r"op 1 \(sign\) needs floats, got bits"),
    ((Threshold("x", 2), Threshold("x", 2)), X, "needs sums or floats, got bits"),
    ((Levels("x"),), {"x.levels": np.zeros(4, np.float32)},
     r"op 0 \(levels 'x'\) needs bits, got floats \[3\]"),
    ((Threshold("x", 2), Levels("x")), X, "needs tensor 'x.levels', which the file lacks"),
    ((Threshold("x", 2), Levels("x")), X | {"x.levels": np.arange(8, dtype=np.float32)},
     r"'x.levels' to be float32 \[4\], got float32 \[8\]"),
    ((Sign(), Levels("x")), {"x.levels": np.arange(4, dtype=np.float32)},
     r"'x.levels' to be float32 \[2\], got float32 \[4\]"),
    ((Threshold("x", 2), Levels("x")), X | {"x.levels": np.array([0, 1, 1, 2], np.float32)},
     "x.levels does not rise from each level to the next"),
    ((Threshold("x", 2), Levels("x")), X | {"x.levels": np.array([0, 1, 2, np.inf], np.float32)},
     "x.levels holds a non-finite number"),
    ((Linear("a", (1, 3), bits=2),), A, r"'a.weight' to be uint8 \[2, 1\], got uint8 \[1\]"),
    ((Linear("a", (1, 3), bits=3),), {"a.weight": np.zeros((2, 1), np.uint8)},
     r"'a.weight' to be uint8 \[3, 1\], got uint8 \[2, 1\]"),
    ((Linear("a", (1, 3), bits=2),), {"a.weight": np.zeros((1, 3), np.float32)},
     r"'a.weight' to be uint8 \[2, 1\], got float32"),
    ((Linear("a", (1, 3), bits=2),), {"a.weight": np.array([[0], [8]], np.uint8)},
     "bits of a.weight after the last weight are not 0"),
    ((Linear("a", (1, 3), bits=2),), {"a.weight": np.array([[1], [3]], np.uint8)},
     "a.weight holds a weight of -2; weights of 2 bits go from -1 to 1"),
    ((Linear("a", (1, 3), bits=4),), {"a.weight": np.array([[0], [1], [1], [3]], np.uint8)},
     "a.weight holds a weight of -8; weights of 4 bits go from -7 to 7"),
    ((Linear("a", (1, 3), odd=True),), A, "is odd, which needs the key bits, 2 to 8"),
]  # fmt: skip


@pytest.mark.parametrize(("ops", "tensors", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refuses_what_does_not_fit(ops, tensors, message: str) -> None:
    with pytest.raises(PackedFileError, match=message):
        Program((3,), ops, tensors)


@pytest.mark.parametrize(("low", "pad"), [(0, 1), (0, -1), (-1, 0)])
def test_cells_of_more_bits_are_padded_with_zeros(low: int, pad: int) -> None:
    op = Conv("a", (1, 1, 3, 3), low=low, pad=pad)
    tensors = {"x.threshold": rows(2, 1), "a.weight": pack_bits(np.ones(9))}
    with pytest.raises(PackedFileError, match=rf"for cells of 2 bits, got low {low}, pad {pad}$"):
        Program((1, 4, 4), (Threshold("x", 2), op), tensors)


def test_the_most_negative_odd_weight_is_a_weight() -> None:
    op = Linear("a", (1, 3), bits=2, odd=True)
    tensors = {"a.weight": np.array([[0], [7]], np.uint8)}
    Program((3,), (op,), tensors)
    assert unpack_weights(op, tensors).tolist() == [[-3, -3, -3]]


def test_pools_and_affines_of_cells() -> None:
    ops = (Threshold("x", 8), MaxPool((2, 2)), AvgPool((2, 2)), Affine("x"))
    tensors = {"x.threshold": rows(8, 3), "x.affine": np.ones((2, 3), np.float32)}
    program = Program((3, 4, 4), ops, tensors)
    assert [value.kind for value in program.values] == ["floats", "bits", "bits", "floats",
                                                        "floats"]  # fmt: skip
