"""A packed network as a function of numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import InputError
from coarsegrad.packed import Conv, Program, read
from coarsegrad.runtime import reference

# im2col of a chunk of the batch stays under this many elements, 64 MiB of float32.
_CHUNK = 1 << 24


def load(path: str | Path) -> Model:
    """Read a packed file and return the network in it.

    Raises:
        PackedFileError: the file is damaged or not a packed file.
        OSError: the file cannot be opened.
    """
    return Model(read(path))


@final
class Model:
    """A packed network: call it with float32 (N, ...) to get float32 results.

    It holds no state between calls; any number of threads may call one model.

    >>> from coarsegrad.packed import Program, Sign
    >>> Model(Program((2,), (Sign(),), {}))(np.array([[-0.5, 0.0]], np.float32))
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, program: Program) -> None:
        self.program = program

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's results, float32 (N, ...).

        Args:
            x: float32, one or more samples of the shape the network was packed with.

        Raises:
            InputError: another shape or dtype, or a value that is not finite.
        """
        parts = [self._result(chunk) for chunk in self._chunks(self._checked(x))]
        return np.concatenate(parts)

    def trace(self, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the value after each op, by ``"INDEX:OP"`` or ``"INDEX:OP NAME"``.

        Bits come as int8 of -1 and +1, sums and floats as float32; shapes (N, ...).

        Raises:
            InputError: as in a call.
        """
        traced: dict[str, NDArray[Any]] = {}
        value: NDArray[Any] = self._checked(x)
        for i, op in enumerate(self.program.ops):
            value = reference.apply(op, value, self.program.tensors)
            name = getattr(op, "name", None)
            traced[f"{i}:{op.op}" if name is None else f"{i}:{op.op} {name}"] = value
        return traced

    def run(self, start: int, stop: int, value: NDArray[Any]) -> NDArray[Any]:
        """Return the value after ops ``start`` to ``stop - 1``, given the value before them."""
        for op in self.program.ops[start:stop]:
            value = reference.apply(op, value, self.program.tensors)
        return value

    def _result(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.run(0, len(self.program.ops), x).astype(np.float32, copy=False)

    def _chunks(self, x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        size = max(1, _CHUNK // _peak_elements(self.program))
        for start in range(0, max(len(x), 1), size):
            yield x[start : start + size]

    def _checked(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        wanted = f"float32 of shape (N, {', '.join(map(str, self.program.input))})"
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            got = f"{x.dtype} array" if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                f"the network needs {wanted}, got {got}; prepare it as the training images were, "
                "for MNIST (pixels.astype(np.float32) - 128) / 128"
            )
        if x.ndim < 1 or x.shape[1:] != self.program.input:
            raise InputError(f"the network needs {wanted}, got shape {x.shape}")
        if not np.isfinite(x).all():
            place = np.argwhere(~np.isfinite(x))[0].tolist()
            raise InputError(
                f"the network needs finite numbers, got {x[tuple(place)]} at index {place}"
            )
        return x


def _peak_elements(program: Program) -> int:
    """Return the most elements per sample that the executor holds at once."""
    peak = 1
    for op, before, after in zip(program.ops, program.values, program.values[1:], strict=False):
        peak = max(peak, math.prod(before.shape), math.prod(after.shape))
        if isinstance(op, Conv):
            window = op.groups * math.prod(op.shape[1:])
            peak = max(peak, window * math.prod(after.shape[1:]))
    return peak
