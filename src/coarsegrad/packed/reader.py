"""File -> Program. Every byte is distrusted until the checksum and the graph's check agree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError

from coarsegrad.errors import PackedFileError, nearest
from coarsegrad.packed.checksum import DTYPES, ZEROS, checksum
from coarsegrad.packed.ops import OPS, Conv, Op, Threshold
from coarsegrad.packed.program import Program
from coarsegrad.packed.writer import VERSION

_NUMPY = {short: np.dtype(name).newbyteorder("<") for name, short in DTYPES.items()}
_LARGEST = (1 << 31) - 1
_CHOICES = {"pad": (-1, 0, 1), "low": (-1, 0)}


def read(path: str | Path) -> Program:
    """Read and check a packed file.

    Raises:
        PackedFileError: the file is truncated, damaged, inconsistent, of another version, or not
            a packed file; the message says what and where. Nothing beyond a small multiple of
            the file's size is allocated.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        return from_bytes(data)
    except PackedFileError as error:
        raise PackedFileError(f"{path}: {error}") from error


def from_bytes(data: bytes) -> Program:
    """Return the program in ``data``, the bytes of a packed file."""
    text = _metadata(data)
    try:
        stored = safetensors.deserialize(data)
    except SafetensorError as error:
        raise PackedFileError(
            f"needs a complete safetensors file, got {len(data)} bytes that are not ({error}); "
            "copy or pack the file again"
        ) from error
    tensors = {name: _array(name, entry) for name, entry in stored}
    graph = _graph(text)
    _check_sum(text, graph["crc32"], tensors)
    shape = _integers(graph["input"], "input", None, 1)
    return Program(shape, tuple(_op(i, entry) for i, entry in enumerate(graph["ops"])), tensors)


def _check_sum(text: str, stored: Any, tensors: dict[str, NDArray[Any]]) -> None:
    if not isinstance(stored, str) or len(stored) != len(ZEROS):
        raise PackedFileError(f"its crc32 needs 8 hexadecimal digits, got {stored!r}")
    found = checksum(text.replace(stored, ZEROS, 1), tensors)
    if found != stored:
        raise PackedFileError(
            f"its checksum is {found}, the file says {stored}: the file is damaged; "
            "copy or pack it again"
        )


def _metadata(data: bytes) -> str:
    """Return the graph's text; safetensors' own reader of bytes drops the metadata."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise PackedFileError(
            f"is truncated: its header claims {length} bytes, the file holds {len(data)}; "
            "copy or pack it again"
        )
    try:
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
    except (ValueError, AttributeError, RecursionError) as error:
        raise PackedFileError(
            f"has a header that is not JSON ({error}); is it a .cgrad file?"
        ) from None
    if not isinstance(metadata, dict) or metadata.keys() != {"coarsegrad"}:
        raise PackedFileError(
            "is not a packed network: its metadata needs the key 'coarsegrad' alone, "
            f"got {sorted(metadata) if isinstance(metadata, dict) else metadata!r}"
        )
    text = metadata["coarsegrad"]
    if not isinstance(text, str):
        raise PackedFileError("has metadata that is not text")
    return text


def _array(name: str, entry: dict[str, Any]) -> NDArray[Any]:
    if entry["dtype"] not in _NUMPY:
        raise PackedFileError(
            f"tensor {name!r} is {entry['dtype']}; allowed: {', '.join(sorted(_NUMPY))}"
        )
    shape = entry["shape"]
    if not 1 <= len(shape) <= 4 or 0 in shape:
        raise PackedFileError(
            f"tensor {name!r} has the shape {shape}; allowed: 1 to 4 dimensions, none of them 0"
        )
    array = np.frombuffer(entry["data"], _NUMPY[entry["dtype"]]).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _graph(text: str) -> dict[str, Any]:
    try:
        graph = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise PackedFileError(f"its graph is not JSON ({error})") from None
    if not isinstance(graph, dict):
        raise PackedFileError("its graph is not a JSON object")
    # The version comes first: a later one may have other keys.
    version = graph.get("version")
    if type(version) is not int or version != VERSION:
        raise PackedFileError(
            f"is of version {graph.get('version')!r}; this coarsegrad reads version {VERSION}; "
            "pack the model again, or install the coarsegrad that wrote it"
        )
    needed = ("crc32", "input", "ops", "version")
    if sorted(graph) != list(needed) or not isinstance(graph["ops"], list):
        raise PackedFileError(f"its graph has the keys {sorted(graph)}; needed: {needed}")
    return graph


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _op(index: int, entry: Any) -> Op:
    name = entry[0] if isinstance(entry, list) and entry else entry
    if not isinstance(entry, list) or not isinstance(name, str) or name not in OPS:
        raise PackedFileError(f"op {index} is {name!r}; known: {', '.join(OPS)}")
    kind = OPS[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    place = f"op {index} ({kind.op})"
    given, rest = dict[str, Any](), entry[1:]
    if "name" in fields:
        given, rest = {"name": rest[0] if rest else None}, rest[1:]
    if len(rest) > 1 or any(not isinstance(keys, dict) or "name" in keys for keys in rest):
        raise PackedFileError(f"{place} needs [kind, name, keys], got {entry!r}")
    given |= rest[0] if rest else {}
    for key in given:
        if key not in fields:
            raise PackedFileError(f"{place} has an unknown key {key!r}.{nearest(key, fields)}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in given]
    if missing:
        raise PackedFileError(f"{place} lacks the key {missing[0]!r}")
    op: Op = kind(**{key: _field(kind, key, value, place) for key, value in given.items()})
    return op


def _field(kind: type[Any], key: str, value: Any, place: str) -> Any:
    where = f"{place}: {key}"
    if key == "name":
        if not isinstance(value, str):
            raise PackedFileError(f"{where} needs text, got {value!r}")
        return value
    if key == "groups":
        return _integers([value], where, 1, 1)[0]
    if key == "bits":
        least = 1 if kind is Threshold else 2
        if type(value) is not int or not least <= value <= 8:
            raise PackedFileError(f"{where} needs an integer from {least} to 8, got {value!r}")
        return value
    if key == "odd":
        if type(value) is not bool:
            raise PackedFileError(f"{where} needs true or false, got {value!r}")
        return value
    if key in _CHOICES:
        allowed = _CHOICES[key]
        if type(value) is not int or value not in allowed:
            known = ", ".join(map(str, allowed[:-1]))
            raise PackedFileError(f"{where} needs {known} or {allowed[-1]}, got {value!r}")
        return value
    length = 4 if kind is Conv and key in ("shape", "padding") else 2
    return _integers(value, where, length, 0 if key == "padding" else 1)


def _integers(value: Any, where: str, length: int | None, least: int) -> tuple[int, ...]:
    fits = isinstance(value, list) and len(value) == (len(value) if length is None else length)
    if not fits or not all(type(n) is int and least <= n <= _LARGEST for n in value):
        count = "a list of" if length is None else f"{length}"
        raise PackedFileError(f"{where} needs {count} integers >= {least}, got {value!r}")
    return tuple(value)
