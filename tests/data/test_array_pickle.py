"""Pickles of arrays: what Python 2 and 3 write is read, what would run is not."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coarsegrad.data.array_pickle import ArrayPickleError, load

ARRAY = np.arange(24, dtype=np.uint8).reshape(4, 6)


def python2(array: np.ndarray, labels: list[int]) -> bytes:
    """What Python 2's cPickle wrote for {'data': array, 'labels': labels}, opcode by opcode."""

    def text(content: bytes) -> bytes:
        if len(content) < 256:
            return b"U" + struct.pack("<B", len(content)) + content
        return b"T" + struct.pack("<i", len(content)) + content

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = (
        b"cnumpy\ndtype\nq\x05" + text(b"u1") + b"K\x00K\x01\x87Rq\x06"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = number(array.shape[0]) + number(array.shape[1]) + b"\x86"
    by_columns = b"\x88" if array.flags.f_contiguous else b"\x89"
    content = array.tobytes("A")
    return (
        b"\x80\x02}q\x01(" + text(b"data") + b"q\x02"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        + text(b"b") + b"\x87R(K\x01" + shape + dtype + by_columns + text(content) + b"tb"
        + text(b"labels") + b"]q\x07(" + b"".join(map(number, labels)) + b"eu."
    )  # fmt: skip


def test_the_hand_written_pickle_is_one() -> None:
    found = pickle.loads(python2(ARRAY, [3, 1]), encoding="bytes")
    assert found[b"labels"] == [3, 1]
    assert (found[b"data"] == ARRAY).all()


FORMS = {
    "python 2": python2(ARRAY, [9, 0, -1]),
    "python 2, by columns": python2(np.asfortranarray(ARRAY), [9, 0, -1]),
    "python 3, protocol 3": pickle.dumps({b"data": ARRAY, b"labels": [9, 0, -1]}, 3),
    "python 3, protocol 4": pickle.dumps({b"data": ARRAY, b"labels": [9, 0, -1]}, 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_and_labels_are_read(form: str) -> None:
    found = load(FORMS[form])
    assert found[b"labels"] == [9, 0, -1]
    array = found[b"data"].uint8((4, 6))
    assert array.dtype == np.uint8
    assert array.tolist() == ARRAY.tolist()
    assert found[b"data"].uint8((6, 4)) is None
    assert str(found[b"data"]) == "an array of shape (4, 6) and dtype 'u1'"


def test_other_dtypes_are_not_taken_for_bytes() -> None:
    for dtype in ("int8", "S1", "bool", "float32", "object"):
        found = load(pickle.dumps(ARRAY.astype(dtype), 4))
        assert found.uint8((4, 6)) is None


class Run:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def hostile(tmp_path: Path) -> dict[str, bytes]:
    mark = str(tmp_path / "ran")
    named = f"cos\nsystem\n(S'touch {mark}'\ntR."
    return {
        "os.system": pickle.dumps(Run(os.system, f"touch {mark}")),
        "eval": pickle.dumps(Run(eval, f"open({mark!r}, 'w')")),
        "by text": named.encode(),
        "inst": f"(S'touch {mark}'\nios\nsystem\n.".encode(),
        "obj": f"(cos\nsystem\nS'touch {mark}'\no.".encode(),
        "inside a label": pickle.dumps({b"data": ARRAY, b"labels": [Run(os.mkdir, mark)]}, 2),
        "numpy's loader": pickle.dumps(Run(np.load, mark)),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
        "persistent": b"Pmark\n.",
    }


@pytest.mark.parametrize("attack", hostile(Path()))
def test_nothing_is_run(attack: str, tmp_path: Path) -> None:
    with pytest.raises(ArrayPickleError, match=r"not allowed|persistent|UnpicklingError"):
        load(hostile(tmp_path)[attack])
    assert not (tmp_path / "ran").exists()


def test_the_attacks_are_attacks(tmp_path: Path) -> None:
    pickle.loads(hostile(tmp_path)["os.system"])
    assert (tmp_path / "ran").exists()


STAND_INS = [b"numpy\nndarray", b"numpy\ndtype", b"numpy.core.multiarray\n_reconstruct"]


@pytest.mark.parametrize("name", STAND_INS)
def test_the_stand_ins_cannot_be_changed(name: bytes) -> None:
    """BUILD with (None, {"levels": None}) sets an attribute of whatever has no __setstate__."""
    with pytest.raises(ArrayPickleError, match=r"TypeError: .*__setstate__"):
        load(b"c" + name + b"\n(N(dVlevels\nNst" + b"b.")


def test_memory_is_not_claimed() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ArrayPickleError, match="memo entry 268435455 in 8 bytes"):
            load(b"]r\xff\xff\xff\x0f0.")
        with pytest.raises(ArrayPickleError, match="ValueError: expected 2147483647 bytes"):
            load(b"T\xff\xff\xff\x7fabc.")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_endless_pickles_are_left() -> None:
    with pytest.raises(ArrayPickleError, match="more than 200,000 opcodes"):
        load(b"]" + b"]a" * 100_001 + b".")


def test_a_shape_that_never_ends_is_not_printed() -> None:
    """Tuples of tuples of ..., whose text would have 2 ** 60 parts, as an array's shape."""
    doubled = b"t" + b"2\x86" * 60  # DUP, TUPLE2: (x, x), sixty times
    shape = b"J\x04\0\0\0J\x06\0\0\0\x86"
    assert FORMS["python 2"].count(shape) == 1
    found = load(FORMS["python 2"].replace(shape, b"(" + doubled))
    assert found[b"data"].uint8((4, 6)) is None
    assert str(found[b"data"]) == "another array"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_an_error_or_another_value(data: st.DataObject) -> None:
    content = bytearray(FORMS["python 2"])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = load(bytes(content))
    except ArrayPickleError:
        return
    str(found)


def test_opcodes_of_python_2_are_those_of_the_test() -> None:
    names = {opcode.name for opcode, _, _ in pickletools.genops(FORMS["python 2"])}
    assert {"SHORT_BINSTRING", "GLOBAL", "REDUCE", "BUILD", "BINPUT", "APPENDS"} <= names
