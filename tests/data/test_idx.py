"""The IDX reader believes nothing that a file says about itself."""

from __future__ import annotations

import gzip
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coarsegrad.data.idx import read_idx
from coarsegrad.errors import DataError

SHAPE = (2, 3, 4)
VALUES = bytes(range(100, 124))
HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])
GOOD = HEADER + VALUES


def stored(folder: Path, content: bytes, *, packed: bool = False) -> Path:
    path = folder / "images.gz"
    path.write_bytes(content if packed else gzip.compress(content, mtime=0))
    return path


def test_values_come_in_c_order(tmp_path: Path) -> None:
    got = read_idx(stored(tmp_path, GOOD), SHAPE)
    assert got.dtype == np.uint8
    assert got.tolist() == np.arange(100, 124).reshape(SHAPE).tolist()
    got[0] = 0  # ours to write to


HOSTILE = {
    "empty": (b"", "begins with the bytes ''"),
    "header cut in the magic": (GOOD[:3], "begins with the bytes '00 00 08'"),
    "header cut in the sizes": (GOOD[:13], "header of 3 dimensions"),
    "no values": (HEADER, "exactly 24 bytes after its header, got only 0"),
    "truncated": (GOOD[:-1], "exactly 24 bytes after its header, got only 23"),
    "longer": (GOOD + b"\0", "exactly 24 bytes after its header, got more"),
    "not zero": (b"\1" + GOOD[1:], "begins with the bytes '01 00 08 03'"),
    "signed bytes": (GOOD[:2] + b"\x09" + GOOD[3:], "begins with the bytes '00 00 09 03'"),
    "labels": (bytes([0, 0, 8, 1, 0, 0, 0, 24]) + VALUES, "header of 1 dimensions"),
    "other sizes": (HEADER[:7] + b"\3" + HEADER[8:] + VALUES, r"the sizes \[3, 3, 4\]"),
    "huge sizes": (HEADER[:4] + b"\xff" * 12 + VALUES, r"the sizes \[4294967295, 4294967295"),
}


@pytest.mark.parametrize(("content", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_content_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + reason):
        read_idx(path, SHAPE)


PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD, "Not a gzipped file"),
        (b"<html>", "Not a gzipped file"),
        (PACKED[:-9], "ended before"),
        (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "CRC check failed"),
        (PACKED[:-4] + b"\0\0\0\0", "Incorrect length"),
        (PACKED + b"rest", "Not a gzipped file"),
        (PACKED[:10] + b"\xff" * 40, "invalid block type"),
    ],
)
def test_a_damaged_gzip_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = stored(tmp_path, content, packed=True)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + reason):
        read_idx(path, SHAPE)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "none.gz", SHAPE)
    with pytest.raises(DataError, match="Is a directory"):
        read_idx(tmp_path, SHAPE)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = stored(tmp_path, GOOD + bytes(50_000_000))
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="got more"):
            read_idx(path, SHAPE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@given(
    st.lists(st.tuples(st.integers(0, len(PACKED) - 1), st.integers(0, 255)), max_size=3),
    st.integers(0, len(PACKED)),
    st.binary(max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_mutations_give_the_values_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, int]],
    end: int,
    rest: bytes,
) -> None:
    content = bytearray(PACKED)
    for place, value in changes:
        content[place] = value
    path = stored(tmp_path_factory.getbasetemp(), bytes(content[:end]) + rest, packed=True)
    try:
        got = read_idx(path, SHAPE)
    except DataError as refusal:
        got, said = None, str(refusal)
    if got is None:
        assert str(path) in said
    else:
        assert got.tobytes() == VALUES
