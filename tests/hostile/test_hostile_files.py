"""Damaged and malicious files: a PackedFileError that says what and where, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from coarsegrad import runtime
from coarsegrad.errors import PackedFileError
from coarsegrad.packed import (
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Program,
    Relu,
    Threshold,
    pack_bits,
    pack_digits,
    pack_ternary,
)
from coarsegrad.packed.checksum import ZEROS, checksum
from coarsegrad.packed.reader import from_bytes
from coarsegrad.packed.writer import to_bytes


def small() -> bytes:
    tensors = {
        "a.weight": pack_bits(np.random.default_rng(0).standard_normal(27)),
        "a.threshold": np.zeros(3, np.float32),
        "b.weight": pack_ternary(np.random.default_rng(1).integers(-1, 2, 24)),
    }
    ops = (
        AvgPool((2, 2)),
        Relu(),
        Conv("a", (3, 1, 3, 3)),
        Threshold("a"),
        MaxPool((2, 2)),
        Flatten(),
        Linear("b", (2, 12), low=0),
    )
    return to_bytes(Program((1, 12, 12), ops, tensors))


def low_bits() -> bytes:
    rng = np.random.default_rng(0)
    ops = (
        Threshold("x", 2),
        Conv("a", (3, 1, 3, 3), low=0, bits=2, odd=True),
        Threshold("a", 2),
        MaxPool((2, 2)),
        Flatten(),
        Linear("b", (2, 12), low=0, bits=3),
        Threshold("b", 2),
        Levels("b"),
    )
    rows = np.arange(3, dtype=np.float32)[:, None]
    tensors = {
        "x.threshold": rows,
        "a.weight": pack_digits(2 * rng.integers(-2, 2, 27) + 1, 2, odd=True),
        "a.threshold": np.repeat(-rows, 3, 1).astype(np.int16),
        "a.flip": np.array([7], np.uint8),
        "b.weight": pack_digits(rng.integers(-3, 4, 24), 3),
        "b.threshold": np.repeat(rows, 2, 1).astype(np.int16),
        "b.levels": np.array([0, 1, 3, 9], np.float32),
    }
    return to_bytes(Program((1, 6, 6), ops, tensors))


VALID = small()
FILES = {"one bit": VALID, "low bits": low_bits()}
# The native engine has no stages for cells of more bits yet.
TARGETS = {"one bit": None, "low bits": "numpy"}
files = pytest.mark.parametrize("file", FILES)


@files
def test_the_file_is_valid_before_it_is_damaged(file: str) -> None:
    assert from_bytes(FILES[file]).ops


@pytest.mark.parametrize("length", range(0, len(VALID), 7))
def test_truncated(length: int) -> None:
    with pytest.raises(PackedFileError, match=r"truncated|complete safetensors file"):
        from_bytes(VALID[:length])


@files
def test_every_single_bit_flip_is_found(file: str) -> None:
    survived = []
    for position in range(len(FILES[file]) * 8):
        data = bytearray(FILES[file])
        data[position // 8] ^= 1 << position % 8
        try:
            from_bytes(bytes(data))
        except PackedFileError:
            continue
        survived.append(position)
    assert survived == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations_never_crash(data: st.DataObject) -> None:
    valid = data.draw(st.sampled_from(list(FILES.values())))
    mutated = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(mutated)))
        end = min(len(mutated), position + data.draw(st.integers(0, 40)))
        mutated[position:end] = data.draw(st.binary(max_size=40))
    if bytes(mutated) == valid:
        return
    with pytest.raises(PackedFileError, match=r"\w"):
        from_bytes(bytes(mutated))


@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    with pytest.raises(PackedFileError, match=r"\w"):
        from_bytes(data)


def header(entries: dict, body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


META = {"coarsegrad": '{"version":1,"crc32":"00000000","input":[1],"ops":[]}'}
ATTACKS = {
    "header longer than any file": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "tensor beyond the file": header(
        {"__metadata__": META, "a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    ),
    "shape that overflows": header(
        {"__metadata__": META,
         "a": {"dtype": "U8", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"abcd"
    ),
    "shape against offsets": header(
        {"__metadata__": META, "a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 4]}}, b"abcd"
    ),
    "negative offset": header(
        {"__metadata__": META, "a": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}}
    ),
    "hole between tensors": header(
        {"__metadata__": META, "a": {"dtype": "U8", "shape": [1], "data_offsets": [3, 4]}}, b"abcd"
    ),
    "dtype of another world": header(
        {"__metadata__": META, "a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}},
        b"8" * 8,
    ),
    "a size beyond numpy": header(
        {"__metadata__": META, "a": {"dtype": "U8", "shape": [2**63, 0], "data_offsets": [0, 0]}}
    ),
    "a hundred dimensions": header(
        {"__metadata__": META,
         "a": {"dtype": "U8", "shape": [0] + [1] * 99, "data_offsets": [0, 0]}}
    ),
    "an empty tensor": header(
        {"__metadata__": META, "a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    ),
    "a key twice": header({"__metadata__": {"coarsegrad": META["coarsegrad"].replace(
        '"input"', '"ops":[],"input"')}}),
    "no metadata": header({}),
    "metadata is a list": header({"__metadata__": []}),
    "metadata without our key": header({"__metadata__": {"format": "pt"}}),
    "graph is a number": header({"__metadata__": {"coarsegrad": 3}}),
    "header is a list": header([]),  # type: ignore[arg-type]
    "deep nesting": (400_000).to_bytes(8, "little") + b"[" * 400_000,
    "not utf-8": (4).to_bytes(8, "little") + b"\xff\xfe\xff\xfe",
    "a zip, as torch.save writes": b"PK\x03\x04" + b"\0" * 100,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    path.write_bytes(ATTACKS[name])
    with pytest.raises(PackedFileError, match=r"net\.cgrad: "):
        runtime.load(path)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_allocate_nothing_large(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    path.write_bytes(ATTACKS[name])
    code = f"""
import resource, coarsegrad.runtime as r, coarsegrad.errors as e
from coarsegrad.packed import reader
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), used + (32 << 20)))
try:
    r.load({str(path)!r})
except e.PackedFileError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def resigned(valid: bytes, change: Callable[[Any], None]) -> bytes:
    """Return the valid file with a changed graph and the checksum that fits it."""
    length = int.from_bytes(valid[:8], "little")
    entries = json.loads(valid[8 : 8 + length])
    graph = json.loads(entries["__metadata__"]["coarsegrad"])
    change(graph)
    text = json.dumps(graph | {"crc32": ZEROS})
    tensors = dict(from_bytes(valid).tensors)
    signed = text.replace(ZEROS, checksum(text, tensors), 1)
    entries["__metadata__"] = {"coarsegrad": signed}
    return header(entries, valid[8 + length :])


NUMBERS = st.sampled_from([-(2**31), -1, 0, 1, 2, 3, 5, 8, 12, 100, 2**16, 2**31 - 1, 2**31, 2**64])
ODD = st.one_of(NUMBERS, st.none(), st.booleans(), st.floats(), st.text(max_size=3),
                st.lists(NUMBERS, max_size=5))  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside a JSON value."""
    keys = range(len(value)) if isinstance(value, list) else list(value)
    inner = [(value, key) for key in keys]
    return inner + [p for _, key in inner if isinstance(value[key], (list, dict))
                    for p in places(value[key])]  # fmt: skip


@files
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_graphs_with_a_fitting_checksum(file: str, data: st.DataObject) -> None:
    """Behind the checksum stands the check of the graph: what passes it runs."""

    def change(graph: Any) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            container, key = data.draw(st.sampled_from(places(graph)))
            if key in range(len(container)) if isinstance(container, list) else key in container:
                container[key] = data.draw(ODD)

    try:
        program = from_bytes(resigned(FILES[file], change))
        model = runtime.Model(program, target=TARGETS[file])
    except PackedFileError:
        return
    model(np.zeros((1, *model.program.input), np.float32))
