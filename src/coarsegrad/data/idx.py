"""The IDX format of the MNIST files: a magic number, the sizes, then the bytes.

Format: two zero bytes, a type byte (8 = unsigned 8-bit), the number of dimensions, each size as
big-endian uint32, then the values in C order. Source: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coarsegrad.errors import DataError


def read_idx(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Read a gzip-compressed IDX file of unsigned bytes that must have exactly this shape.

    The shape is the caller's knowledge of the data set. Nothing in the file is believed beyond
    it: at most ``prod(shape)`` values and one byte more are ever unpacked.

    Args:
        path: the .gz file.
        shape: the sizes that the header must state and the values must fill.

    Returns:
        A writable uint8 array of that shape.

    Raises:
        DataError: the file cannot be read, is not gzip, is damaged, is not IDX of unsigned bytes,
            or holds another shape, fewer values or more.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "two.gz"
    ...     _ = path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])))
    ...     read_idx(path, (2,))
    array([7, 9], dtype=uint8)
    """
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    try:
        with gzip.open(path, "rb") as file:
            found = file.read(len(header))
            if found != header:
                raise _damaged(path, f"{_describe(shape)}, got {_describe_header(found)}")
            values = file.read(prod(shape))
            # Reading past the last value also makes gzip verify its own checksum.
            more = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"a readable gzip file, got: {error}") from error
    if len(values) != prod(shape) or more:
        got = "more" if more else f"only {len(values):,}"
        raise _damaged(path, f"exactly {prod(shape):,} bytes after its header, got {got}")
    return np.frombuffer(values, np.uint8).reshape(shape).copy()


def _describe(shape: tuple[int, ...]) -> str:
    return f"an IDX file of unsigned bytes of shape {shape}"


def _describe_header(found: bytes) -> str:
    if len(found) < 4 or found[:3] != b"\0\0\x08":
        return f"a file that begins with the bytes '{found[:4].hex(' ')}'"
    sizes = [int.from_bytes(found[i : i + 4], "big") for i in range(4, len(found), 4)]
    return f"a header of {found[3]} dimensions that begins with the sizes {sizes}"


def _damaged(path: Path, sentence: str) -> DataError:
    return DataError(
        f"read_idx needs {path} to be {sentence}; delete the file, so that it is fetched again, "
        "or replace it by a good copy"
    )
