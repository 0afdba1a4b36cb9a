"""The summary of a packed file: every byte of it, from the file alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from coarsegrad import deploy, models, packed
from coarsegrad.cli.contents import TENSORS, contents
from coarsegrad.cli.findings import small_network
from coarsegrad.packed.ops import OPS
from commandline import Run


@pytest.mark.parametrize(("name", "shape"), [
    ("small_cnn", (1, 28, 28)), ("mlp", (1, 28, 28)),
])  # fmt: skip
def test_the_total_is_the_files_size(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    program = deploy.pack(getattr(models, name)(), torch.zeros(1, *shape), path)
    found = contents(path)
    assert found.total_bytes == path.stat().st_size
    assert found.header_bytes + sum(row.bytes for row in found.rows) == found.total_bytes
    assert sum(row.bytes for row in found.rows) == sum(t.nbytes for t in program.tensors.values())
    # The header is what safetensors needs and the graph.
    assert 0 < found.header_bytes < 1500


def test_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    packed.write(path, small_network())
    rows = contents(path).rows
    assert [dataclasses.astuple(row) for row in rows] == [
        ("conv a", "sums", (16, 8, 8), 32, 1, 16 * 64 * 27, 16 * 27 // 8),
        ("threshold a", "bits", (16, 8, 8), 32, None, 0, 64),
        ("conv b", "sums", (24, 4, 4), 1, 1, 24 * 16 * 144, 24 * 18),
        ("threshold b", "bits", (24, 4, 4), 32, None, 0, 48 + 3),
        ("flatten", "bits", (384,), 1, None, 0, 0),
        ("linear c", "sums", (10,), 1, 1, 3840, 480),
    ]


def test_float_weights_and_few_bits(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "net.cgrad"
    ops = (packed.Linear("a", (1, 3)), packed.Threshold("a"), packed.Linear("a.b", (1, 1)))
    tensors = {"a.weight": np.ones((1, 3), np.float32), "a.threshold": np.zeros(1, np.float32),
               "a.b.weight": np.zeros(1, np.uint8)}  # fmt: skip
    packed.write(path, packed.Program((3,), ops, tensors))
    assert [(r.weight_bits, r.bytes) for r in contents(path).rows] == [(32, 12), (None, 4), (1, 1)]


def test_cells_and_weights_of_several_bits(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "net.cgrad"
    ops = (packed.Threshold("x", 2), packed.Linear("a", (1, 3), low=0, bits=5),
           packed.Threshold("a", 4), packed.Flatten(), packed.Levels("a"))  # fmt: skip
    tensors = {"x.threshold": np.zeros((3, 3), np.float32), "a.threshold": np.zeros((15, 1), "i2"),
               "a.weight": packed.pack_digits(np.arange(3), 5),
               "a.levels": np.arange(16, dtype=np.float32)}  # fmt: skip
    packed.write(path, packed.Program((3,), ops, tensors))
    assert [dataclasses.astuple(row) for row in contents(path).rows] == [
        ("threshold x", "2-bit", (3,), 32, None, 0, 36),
        ("linear a", "sums", (1,), 2, 5, 3, 5),
        ("threshold a", "4-bit", (1,), 32, None, 0, 30),
        ("flatten", "4-bit", (1,), 4, None, 0, 0),
        ("levels a", "floats", (1,), 4, None, 0, 64),
    ]


def test_every_kind_of_op_with_tensors_is_known() -> None:
    named = {op for op, kind in OPS.items() if "name" in kind.__dataclass_fields__}
    assert named == TENSORS.keys()


def test_the_command(run: Run, trained: Path) -> None:
    packed.write("net.cgrad", small_network())
    size = Path("net.cgrad").stat().st_size
    done = run("summary", "net.cgrad")
    assert done.code == 0, done.err
    assert f"{size:,} │" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    found = json.loads(run("summary", "net.cgrad", "--json").out)
    assert (found["total_bytes"], found["input"], len(found["rows"])) == (size, [3, 8, 8], 6)
