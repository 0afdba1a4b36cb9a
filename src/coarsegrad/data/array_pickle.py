"""Pickles of numpy arrays, read without numpy's or anybody's code running on what they say.

A pickle is a program. This reader runs it on a machine that has three functions: the two that
numpy's pickles name to make an array and a dtype, and the array class, all replaced by records
that only take down what they are given.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt


class ArrayPickleError(Exception):
    """A pickle is damaged, or holds something else than arrays, numbers, text, lists and dicts."""


@final
class PickledArray:
    """An array as its pickle states it: nothing is checked before ``uint8`` is asked for."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def uint8(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8] | None:
        """Return the array if it is uint8, of this shape, with all its bytes; else None."""
        match self.state:
            case (
                1,
                tuple() as stated,
                _Dtype(("u1", *_)),
                bool() as by_columns,
                bytes() as content,
            ):
                if stated == shape and len(content) == math.prod(shape):
                    order: Literal["C", "F"] = "F" if by_columns else "C"
                    return np.frombuffer(content, np.uint8).reshape(shape, order=order)
        return None

    def __repr__(self) -> str:
        match self.state:
            case (_, tuple() as shape, _Dtype((str() | bytes() as code, *_)), *_):
                return f"an array of dtype {code!r:.20} and shape {shape!r:.60}"
        return "a strange array"


@final
class _Dtype:
    __match_args__ = ("given",)

    def __init__(self, *given: object) -> None:
        self.given = tuple(g.decode("latin1") if isinstance(g, bytes) else g for g in given)

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and fields: a dtype called "u1" has neither."""


@final
class _Array:
    """Stands for the class ``numpy.ndarray``, which a pickle only hands to ``_reconstruct``."""

    def __setstate__(self, state: object) -> None:
        """Ignore it; without this method a pickle could set attributes of the class."""


def load(content: bytes) -> Any:
    """Return what a pickle holds; its arrays come as ``PickledArray``, Python 2 text as bytes.

    Raises:
        ArrayPickleError: it needs another function, or is damaged.

    >>> array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    >>> load(pickle.dumps({b"data": array}, 4))[b"data"].uint8((2, 3))
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    >>> load(pickle.dumps(print))
    Traceback (most recent call last):
    coarsegrad.data.array_pickle.ArrayPickleError: the function builtins.print, which is not allowed
    """
    try:
        _check_memo(content)
        return _Reader(io.BytesIO(content), encoding="bytes").load()
    except ArrayPickleError:
        raise
    except Exception as error:  # what a damaged pickle raises is not limited
        raise ArrayPickleError(f"{type(error).__name__}: {error}") from error


def _check_memo(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        # The C unpickler makes room for as many entries as the highest number says.
        if "PUT" in opcode.name and (not isinstance(argument, int) or argument > len(content)):
            raise ArrayPickleError(f"memo entry {argument} in {len(content):,} bytes")


_FUNCTIONS = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _FUNCTIONS:
            raise ArrayPickleError(f"the function {module}.{name}, which is not allowed")
        return _FUNCTIONS[module, name]
