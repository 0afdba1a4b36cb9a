from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import hypothesis.extra.numpy as hnp
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
    Linear,
    MaxPool,
    Program,
    Relu,
    Sign,
    Threshold,
    pack_bits,
    pack_ternary,
    runs_on_bits,
    unpack_bits,
    unpack_weights,
)
from coarsegrad.packed.ops import OPS
from coarsegrad.packed.reader import from_bytes
from coarsegrad.packed.writer import to_bytes


def example() -> Program:
    rng = np.random.default_rng(0)
    ops = (
        Conv("a", (4, 2, 3, 3), padding=(1, 0, 1, 2), pad=-1),
        MaxPool((2, 2), stride=(1, 2), padding=(1, 0)),
        Threshold("a"),
        Flatten(),
        Linear("b.c", (3, 72)),
        Affine("b.c"),
    )
    tensors = {
        "a.weight": pack_bits(rng.standard_normal(72)),
        "a.threshold": np.array([0.5, -np.inf, np.inf, 0], np.float32),
        "a.flip": np.array([0b0101], np.uint8),
        "b.c.weight": pack_bits(rng.standard_normal(216)),
        "b.c.affine": rng.standard_normal((2, 3)).astype(np.float32),
    }
    return Program((2, 5, 6), ops, tensors)


def test_round_trip(tmp_path: Path) -> None:
    program = example()
    packed.write(tmp_path / "net.cgrad", program)
    back = packed.read(tmp_path / "net.cgrad")
    assert (back.input, back.ops, back.values) == (program.input, program.ops, program.values)
    assert back.tensors.keys() == program.tensors.keys()
    for name, array in program.tensors.items():
        assert np.array_equal(back.tensors[name], array)
        assert back.tensors[name].dtype == array.dtype


def test_it_is_a_safetensors_file_with_short_json(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", example())
    with safetensors.safe_open(tmp_path / "net.cgrad", framework="np") as file:
        graph = json.loads(file.metadata()["coarsegrad"])
        assert set(file.keys()) == set(example().tensors)
    assert graph["version"] == 1
    assert graph["ops"][0] == ["conv", "a", {"shape": [4, 2, 3, 3], "padding": [1, 0, 1, 2],
                                             "pad": -1}]  # fmt: skip
    assert graph["ops"][3] == ["flatten"]


def test_same_program_same_bytes() -> None:
    assert to_bytes(example()) == to_bytes(example())


def test_the_file_is_as_readable_as_any_new_file(tmp_path: Path) -> None:
    packed.write(tmp_path / "net.cgrad", example())
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt("stop"), OSError("No space left")])
def test_nothing_partial_stays(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.cgrad"
    path.write_bytes(b"before")

    def fail(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure), match=str(failure)):
        packed.write(path, example())
    assert [file.name for file in tmp_path.iterdir()] == ["net.cgrad"]
    assert path.read_bytes() == b"before"


@given(hnp.arrays(np.float32, st.integers(0, 70), elements=st.floats(-1, 1, width=32)))
def test_bits_round_trip(values: np.ndarray) -> None:
    bits = pack_bits(values)
    assert len(bits) == (len(values) + 7) // 8
    assert np.array_equal(unpack_bits(bits, len(values)), np.where(values < 0, -1, 1))


def test_bits_of_zeros() -> None:
    assert pack_bits(np.array([0.0, -0.0, -1.0])).tolist() == [0b100]


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.sampled_from([-1.0, 0.0, -0.0, 1.0])))
def test_ternary_round_trip(levels: np.ndarray) -> None:
    op = Linear("a", (1, len(levels)))
    planes = pack_ternary(levels)
    Program((len(levels),), (op,), {"a.weight": planes})
    assert planes.shape == (2, (len(levels) + 7) // 8)
    assert np.array_equal(unpack_weights(op, {"a.weight": planes})[0], levels)


def test_new_keys_are_written_only_where_they_differ(tmp_path: Path) -> None:
    ops = (AvgPool((2, 2), padding=(1, 0)), Relu(), Sign(), Flatten(), Linear("a", (2, 8), low=0),
           Affine("a"))  # fmt: skip
    tensors = {"a.weight": pack_ternary(np.arange(16) % 3 - 1.0),
               "a.affine": np.ones((2, 2), np.float32)}  # fmt: skip
    program = Program((2, 2, 4), ops, tensors)
    packed.write(tmp_path / "net.cgrad", program)
    assert packed.read(tmp_path / "net.cgrad").ops == ops
    with safetensors.safe_open(tmp_path / "net.cgrad", framework="np") as file:
        graph = json.loads(file.metadata()["coarsegrad"])
    assert graph["version"] == 1
    assert graph["ops"][:2] == [["avgpool", {"size": [2, 2], "padding": [1, 0]}], ["relu"]]
    assert graph["ops"][4] == ["linear", "a", {"shape": [2, 8], "low": 0}]


def test_a_reader_from_before_refuses_the_new_ops_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_bytes(Program((2,), (Relu(),), {}))
    monkeypatch.delitem(OPS, "relu")
    with pytest.raises(PackedFileError, match="op 0 is 'relu'; known: conv"):
        from_bytes(data)


KERNELS = [
    (Conv("a", (8, 16, 3, 3)), "bits", pack_bits, True),
    (Conv("a", (8, 16, 3, 3)), "bits", pack_ternary, True),
    (Conv("a", (8, 16, 3, 3)), "bits", np.asarray, False),
    (Conv("a", (8, 16, 3, 3)), "floats", pack_bits, False),
    (Conv("a", (8, 8, 3, 3), groups=2), "bits", pack_bits, True),
    (Conv("a", (8, 4, 3, 3), groups=4), "bits", pack_ternary, False),
    (Conv("a", (8, 16, 3, 3), padding=(1, 0, 0, 0), pad=-1, low=0), "bits", pack_bits, False),
    (Conv("a", (8, 16, 3, 3), padding=(1, 0, 0, 0), pad=1, low=0), "bits", pack_bits, True),
    (Conv("a", (8, 16, 3, 3), pad=-1, low=0), "bits", pack_bits, True),
]


@pytest.mark.parametrize(("op", "kind", "store", "expected"), KERNELS, ids=range(len(KERNELS)))
def test_which_layers_run_on_bits(op: Conv, kind: str, store, expected: bool) -> None:
    weight = store(np.ones(op.shape, np.float32))
    head = (Sign(),) if kind == "bits" else ()
    program = Program((16, 5, 5), (*head, op), {"a.weight": weight})
    assert runs_on_bits(program, len(head)) is expected


def test_runs_on_bits_asks_for_a_layer() -> None:
    with pytest.raises(ValueError, match="needs a conv or linear, but op 0 is a sign"):
        runs_on_bits(Program((2,), (Sign(),), {}), 0)


BAD_GRAPHS = [
    ({"version": 2}, "is of version 2; this coarsegrad reads version 1"),
    ({"version": True}, "is of version True"),
    ({"version": None}, "is of version None"),
    ({"crc32": 3}, "its crc32 needs 8 hexadecimal digits, got 3"),
    ({"crc32": "11111111"}, r"its checksum is \w{8}, the file says 11111111: the file is damaged"),
    ({"input": [0, 3]}, "input needs a list of integers >= 1"),
    ({"input": [True]}, "input needs a list of integers >= 1"),
    ({"input": []}, "input needs 1 to 3 positive sizes"),
    ({"extra": 1}, "needed: .*'input', 'ops', 'version'"),
    ({"ops": [["gelu"]]}, "op 0 is 'gelu'; known: conv"),
    ({"ops": [[]]}, r"op 0 is \[\]"),
    ({"ops": ["sign"]}, "op 0 is 'sign'"),
    ({"ops": [[["x"]]]}, r"op 0 is \['x'\]"),
    ({"ops": [["flatten", {"axis": 1}]]}, r"op 0 \(flatten\) has an unknown key 'axis'"),
    ({"ops": [["flatten", 1]]}, r"op 0 \(flatten\) needs \[kind, name, keys\]"),
    ({"ops": [["maxpool"]]}, r"op 0 \(maxpool\) lacks the key 'size'"),
    ({"ops": [["maxpool", {"size": [2]}]]}, "size needs 2 integers >= 1, got"),
    ({"ops": [["maxpool", {"size": [2, -1]}]]}, "size needs 2 integers >= 1, got"),
    ({"ops": [["maxpool", {"size": [2, 2], "sice": [1, 1]}]]}, "Did you mean 'size'"),
    ({"ops": [["threshold"]]}, "name needs text, got None"),
    ({"ops": [["conv", "a", {"shape": [4, 2, 3, 3], "pad": 2}]]}, "pad needs -1, 0 or 1, got 2"),
    ({"ops": [["conv", "a", {"shape": [4, 2, 3, 3], "low": 1}]]}, "low needs -1 or 0, got 1"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "low": False}]]}, "low needs -1 or 0, got False"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "pad": 0}]]}, "unknown key 'pad'"),
    ({"ops": [["relu", {"size": [2, 2]}]]}, r"op 0 \(relu\) has an unknown key 'size'"),
    ({"ops": [["relu", "name"]]}, r"op 0 \(relu\) needs \[kind, name, keys\]"),
    ({"ops": [["avgpool"]]}, r"op 0 \(avgpool\) lacks the key 'size'"),
    ({"ops": [["avgpool", {"size": [2, 2], "dilation": [1, 1]}]]}, "unknown key 'dilation'"),
    ({"ops": [["avgpool", {"size": [0, 2]}]]}, "size needs 2 integers >= 1, got"),
    ({"ops": [["avgpool", {"size": [2, 2], "padding": [-1, 0]}]]}, "padding needs 2 integers >= 0"),
    ({"ops": [["threshold", "a", {"bits": 0}]]}, "bits needs an integer from 1 to 8, got 0"),
    ({"ops": [["threshold", "a", {"bits": 9}]]}, "bits needs an integer from 1 to 8, got 9"),
    ({"ops": [["threshold", "a", {"bits": True}]]}, "bits needs an integer from 1 to 8, got True"),
    ({"ops": [["threshold", "a", {"odd": True}]]}, "has an unknown key 'odd'"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "bits": 1}]]}, "an integer from 2 to 8, got 1"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "bits": 9}]]}, "an integer from 2 to 8, got 9"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "bits": None}]]}, "from 2 to 8, got None"),
    ({"ops": [["linear", "a", {"shape": [4, 2], "bits": 2, "odd": 1}]]}, "true or false, got 1"),
    ({"ops": [["levels"]]}, "name needs text, got None"),
    ({"ops": [["levels", "a", {"bits": 2}]]}, r"op 0 \(levels\) has an unknown key 'bits'"),
    ({"ops": [["affine", "a", {"bits": 2}]]}, "has an unknown key 'bits'"),
    ({"ops": [["conv", "a", {"shape": [4, 2, 3, 3], "groups": 0}]]}, "groups needs 1 integers"),
    ({"ops": [["conv", "a", {"shape": [4, 2, 3, 2**31]}]]}, "shape needs 4 integers"),
]


def rewritten(change: dict) -> bytes:
    """Return the example's file with another graph and the checksum that fits it."""
    from coarsegrad.packed.checksum import ZEROS, checksum

    data = to_bytes(example())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    before = json.loads(header["__metadata__"]["coarsegrad"])
    graph = json.dumps(before | {"crc32": ZEROS} | change)
    signed = graph.replace(ZEROS, checksum(graph, dict(example().tensors)), 1)
    header["__metadata__"] = {"coarsegrad": signed}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(("change", "message"), BAD_GRAPHS, ids=str)
def test_refuses_a_graph(change: dict, message: str) -> None:
    with pytest.raises(PackedFileError, match=message):
        from_bytes(rewritten(change))


BITS = {"a.weight": np.zeros(9, np.uint8), "a.threshold": np.zeros(4, np.int16)}
CONV = Conv("a", (4, 2, 3, 3))
BAD_PROGRAMS = [
    ((2, 9, 9), (CONV,), {}, r"op 0 \(conv 'a'\) needs tensor 'a.weight', which the file lacks"),
    ((2, 9, 9), (CONV,), {"a.weight": np.zeros(8, np.uint8)},
     r"'a.weight' to be uint8 \[9\] or uint8 \[2, 9\] or float32 \[4, 2, 3, 3\], got uint8 \[8\]"),
    ((2, 9, 9), (CONV,), {"a.weight": np.full((4, 2, 3, 3), np.nan, np.float32)}, "non-finite"),
    ((3, 9, 9), (CONV,), BITS, r"needs \[2, H, W\].*got floats \[3, 9, 9\]"),
    ((18,), (CONV,), BITS, r"got floats \[18\]"),
    ((2, 2, 9), (CONV,), BITS, "has a window of 3 cells on 2"),
    ((2, 9, 9), (Conv("a", (4, 2, 3, 3), padding=(3, 0, 0, 0)),), BITS, "pads by.*at most"),
    ((2, 9, 9), (Conv("a", (4, 1, 3, 3), groups=3),), {"a.weight": np.zeros(5, np.uint8)},
     "in 3 equal groups"),
    ((2, 9, 9), (CONV, CONV), BITS, r"op 1 \(conv 'a'\) needs bits or floats, got sums"),
    ((2, 9, 9), (CONV, Threshold("a")), BITS, r"to be float32 \[4\], got int16"),
    ((2, 9, 9), (Sign(), Sign()), {}, r"op 1 \(sign\) needs floats, got bits"),
    ((2, 9, 9), (Sign(), Threshold("a")), {}, r"needs sums or floats, got bits"),
    ((2, 9, 9), (Linear("a", (1, 162)),), {"a.weight": np.zeros(21, np.uint8)},
     r"needs shape \[162\], got floats \[2, 9, 9\]"),
    ((4,), (MaxPool((2, 2)),), {}, "needs three dimensions"),
    ((4,), (AvgPool((2, 2)),), {}, "needs three dimensions, got floats"),
    ((1, 4, 4), (AvgPool((2, 2), padding=(2, 0)),), {}, "at most half of its size"),
    ((1, 4, 4), (AvgPool((5, 2)),), {}, "has a window of 5 cells on 4"),
    ((1, 1, 1), (AvgPool((2**31 - 1,) * 2, padding=(2**30 - 1,) * 2),), {}, "at most 268435456"),
    ((4,), (Sign(), Relu()), {}, r"op 1 \(relu\) needs sums or floats, got bits"),
    ((4,), (Relu(), Linear("a", (1, 4), low=0)), {"a.weight": np.zeros(1, np.uint8)},
     r"op 1 \(linear 'a'\) needs bits for low 0, got floats"),
    ((3,), (Linear("a", (1, 3)),), {"a.weight": np.array([[1], [15]], np.uint8)},
     "bits of a.weight after the last weight are not 0"),
    ((3,), (Linear("a", (1, 3)),), {"a.weight": np.array([[9], [1]], np.uint8)},
     "bits of a.weight after the last weight are not 0"),
    ((3,), (Linear("a", (1, 3)),), {"a.weight": np.array([[2], [5]], np.uint8)},
     "a.weight gives a sign to a weight that its mask makes 0"),
    ((3,), (Linear("a", (1, 3)),), {"a.weight": np.zeros((3, 1), np.uint8)},
     r"to be uint8 \[1\] or uint8 \[2, 1\] or float32 \[1, 3\], got uint8 \[3, 1\]"),
    ((3,), (Sign(), Linear("a", (1, 3)), Threshold("a")),
     {"a.weight": np.zeros((2, 1), np.uint8), "a.threshold": np.zeros(1, np.float32)},
     r"to be int16 \[1\] or int32 \[1\], got float32"),
    ((1, 4, 4), (MaxPool((2, 2), padding=(2, 0)),), {}, "at most half of its size"),
    ((2, 9, 9), (), {"x": np.zeros(3, np.uint8)}, "no op of the graph uses tensor 'x'"),
    ((2, 9, 9), (Threshold("a"),), {"a.threshold": np.array([0, np.nan], np.float32)}, "NaN"),
    ((3,), (Threshold("a"),), {"a.threshold": np.zeros(3, np.float32),
     "a.flip": np.array([8], np.uint8)}, "bits of a.flip after the last weight are not 0"),
    ((3,), (Affine("a"),), {"a.affine": np.array([[1, 1, np.nan]] * 2, np.float32)}, "non-finite"),
    ((1, 1, 1), (MaxPool((2**31 - 1,) * 2, padding=(2**30 - 1,) * 2),), {}, "at most 268435456"),
    ((1, 1, 1), (Conv("a", (1, 1, 100, 100), padding=(8118,) * 4, dilation=(82, 82)),),
     {"a.weight": np.zeros(1250, np.uint8)}, "windows gathered,.*at most 268435456"),
    ((2**15, 2**15), (), {}, "at most 268435456 elements"),
    ((1, 1, 1), (Conv("a", (1, 1, 2, 2), padding=(2**20,) * 4, dilation=(2**20, 2**20)),),
     {"a.weight": np.zeros(1, np.uint8)}, "at most 268435456 elements"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "ops", "tensors", "message"), BAD_PROGRAMS, ids=range(len(BAD_PROGRAMS))
)
def test_refuses_what_does_not_fit(shape, ops, tensors, message: str) -> None:
    with pytest.raises(PackedFileError, match=message):
        Program(shape, ops, tensors)
