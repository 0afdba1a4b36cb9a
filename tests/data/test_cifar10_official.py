"""Damaged official files of CIFAR-10 are refused by name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from coarsegrad.data import cifar10
from coarsegrad.errors import DataError
from data.archives import write_archive
from data.cifar10_files import LABELS, PIXELS, binaries, pickles
from data.test_array_pickle import Run, python2

pytestmark = pytest.mark.usefixtures("_tiny_cifar10")

Change = Callable[[dict[str, bytes]], None]
BIN, PY = "cifar-10-batches-bin/", "cifar-10-batches-py/"
ONE = PIXELS["train"][:2].reshape(2, -1)


def replaced(name: str, content: bytes) -> Change:
    return lambda files: files.update({name: content})


BROKEN: list[tuple[str, Change, str]] = [
    ("binary", replaced(BIN + "data_batch_3.bin", bytes(6145)),
     "6,146 bytes in data_batch_3.bin, got 6,145"),
    ("binary", replaced(BIN + "data_batch_3.bin", bytes(6147)),
     "6,146 bytes in data_batch_3.bin, got 6,147"),
    ("binary", replaced(BIN + "data_batch_5.bin", b"\x0a" + bytes(6145)),
     "labels 0 .. 9 in data_batch_5.bin, got 10"),
    ("binary", lambda files: files.pop(BIN + "data_batch_2.bin"), "missing data_batch_2.bin"),
    ("binary", replaced("../outside", b""), r"plain relative names, got '\.\./outside'"),
    ("python", lambda files: files.pop(PY + "data_batch_1"), "missing data_batch_1"),
    ("python", replaced(PY + "data_batch_1", python2(ONE, [1, 10])), "labels 0 .. 9 in"),
    ("python", replaced(PY + "data_batch_1", python2(ONE, [1, -1])), "labels 0 .. 9 in"),
    ("python", replaced(PY + "data_batch_1", python2(ONE, [1])),
     r"got an array of shape \(2, 3072\) and dtype 'u1' and 1 labels"),
    ("python", replaced(PY + "data_batch_1", python2(ONE[:, 1:].copy(), [1, 2])),
     r"shape \(2, 3072\) and 2 labels in data_batch_1, got an array of shape \(2, 3071\)"),
    ("python", replaced(PY + "data_batch_1", pickle.dumps([1])), "b'data' and b'labels' in"),
    ("python", replaced(PY + "data_batch_1", pickle.dumps({b"data": 1, b"labels": 2})),
     "b'data' and b'labels' in data_batch_1"),
    ("python", replaced(PY + "data_batch_1", python2(ONE, [1, 2])[:100]),
     "a pickle of arrays in data_batch_1, got "),
]  # fmt: skip


@pytest.mark.parametrize(("form", "change", "reason"), BROKEN)
def test_damage_is_refused_by_name(form: str, change: Change, reason: str, tmp_path: Path) -> None:
    files = binaries() if form == "binary" else pickles()
    change(files)
    path = write_archive(tmp_path / "cifar10" / f"cifar-10-{form}.tar.gz", files.items())
    with pytest.raises(DataError, match=reason) as caught:
        cifar10("train", root=tmp_path)
    assert str(path) in str(caught.value)


def test_a_hostile_pickle_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    files = pickles() | {PY + "test_batch": pickle.dumps(Run(os.mkdir, str(mark)), 2)}
    write_archive(tmp_path / "cifar10" / "cifar-10-python.tar.gz", files.items())
    with pytest.raises(DataError, match=r"test_batch, got the function posix.mkdir, which is not"):
        cifar10("test", root=tmp_path)
    assert not mark.exists()
    assert cifar10("train", root=tmp_path).y.tolist() == LABELS["train"].tolist()


def test_names_may_begin_with_a_dot(tmp_path: Path) -> None:
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    write_archive(path, ((f"./{name}", content) for name, content in binaries().items()))
    assert cifar10("test", root=tmp_path).y.tolist() == LABELS["test"].tolist()
