"""Program -> file, under a temporary name that is renamed when it is complete."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from coarsegrad.files import replacing
from coarsegrad.packed.checksum import ZEROS, checksum
from coarsegrad.packed.ops import Op
from coarsegrad.packed.program import Program

VERSION = 1


def to_bytes(program: Program) -> bytes:
    """Return the file's bytes; the same program gives the same bytes."""
    graph = json.dumps(
        {
            "version": VERSION,
            "crc32": ZEROS,
            "input": list(program.input),
            "ops": [_op(op) for op in program.ops],
        },
        separators=(",", ":"),
    )
    tensors = {name: np.ascontiguousarray(a) for name, a in sorted(program.tensors.items())}
    signed = graph.replace(ZEROS, checksum(graph, tensors), 1)
    return safetensors.numpy.save(tensors, {"coarsegrad": signed})


def write(path: str | Path, program: Program) -> None:
    """Write ``program`` to ``path``; on any failure nothing is left there that was not before.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    data = to_bytes(program)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _op(op: Op) -> list[Any]:
    """Return the op's JSON: [kind, name if it has one, its other keys if they differ]."""
    entry: list[Any] = [op.op]
    keys: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name == "name":
            entry.append(value)
        elif value != field.default:
            keys[field.name] = list(value) if isinstance(value, tuple) else value
    return [*entry, keys] if keys else entry
