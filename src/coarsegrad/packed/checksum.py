"""The checksum of a packed file: CRC-32 over its graph and its tensors, kept in the graph."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# numpy's name -> safetensors' name, for every dtype a packed file may hold.
DTYPES = {"uint8": "U8", "int16": "I16", "int32": "I32", "float32": "F32"}


ZEROS = "0" * 8


def checksum(graph: str, tensors: dict[str, NDArray[Any]]) -> str:
    """Return CRC-32, 8 hexadecimal digits, over the graph and each tensor in name order.

    ``graph`` is the text whose own ``crc32`` is eight zeros.
    """
    crc = zlib.crc32(graph.encode())
    for name in sorted(tensors):
        array = tensors[name]
        crc = zlib.crc32(f"{name} {DTYPES[str(array.dtype)]} {list(array.shape)}\n".encode(), crc)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        crc = zlib.crc32(np.ascontiguousarray(little).tobytes(), crc)
    return f"{crc:08x}"
