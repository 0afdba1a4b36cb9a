"""Signs as bits: 1 means -1, the least significant bit of each byte first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_bits(signs: NDArray[Any]) -> NDArray[np.uint8]:
    """Return ceil(n / 8) bytes for the n values of ``signs`` in C order; 1 where a value is < 0.

    >>> pack_bits(np.array([[-1.0, 1.0, -1.0]]))
    array([5], dtype=uint8)
    """
    negative: NDArray[np.bool_] = np.ascontiguousarray(signs < 0)
    return np.packbits(negative.reshape(-1), bitorder="little")


def unpack_bits(packed: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """Return the first ``count`` signs of ``packed`` as int8, -1 or +1.

    >>> unpack_bits(np.array([5], np.uint8), 3)
    array([-1,  1, -1], dtype=int8)
    """
    bits = np.unpackbits(packed, count=count, bitorder="little").view(np.int8)
    return np.int8(1) - 2 * bits
