"""A packed network as a function of numpy arrays."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from coarsegrad.errors import InputError, TargetError
from coarsegrad.packed import Conv, Program, read
from coarsegrad.runtime import native, reference
from coarsegrad.runtime.targets import check_target, native_module

if TYPE_CHECKING:
    from coarsegrad._native import Engine

# im2col of a chunk of the batch stays under this many elements, 64 MiB of float32.
_CHUNK = 1 << 24


def load(path: str | Path, *, threads: int = 1, target: str | None = None) -> Model:
    """Read a packed file and lay it out for this machine.

    Args:
        path: the file.
        threads: how many cores one call uses; only native targets use more than one.
        target: a name from ``runtime.targets()``; None is the environment's COARSEGRAD_TARGET,
            else the fastest that runs here and has this network's ops.

    Raises:
        PackedFileError: the file is damaged or not a packed file.
        TargetError: an unknown target, one that does not run here, or not this network.
        ValueError: ``threads`` is less than 1.
        OSError: the file cannot be opened.
    """
    return Model(read(path), threads=threads, target=target)


@final
class Model:
    """A packed network: call it with float32 (N, ...) to get float32 results.

    It holds no state between calls; any number of threads may call one model. A native call
    allocates its result and nothing else, and lets other Python threads run.

    Attributes:
        program: the network as it was read.
        target: what runs it, ``"numpy"`` or the name of a native target.

    >>> from coarsegrad.packed import Program, Sign
    >>> Model(Program((2,), (Sign(),), {}))(np.array([[-0.5, 0.0]], np.float32))
    array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, program: Program, *, threads: int = 1, target: str | None = None) -> None:
        if threads < 1:
            raise ValueError(f"a model needs threads >= 1, got {threads}")
        self.program = program
        self.threads = threads
        self._engine = _engine(program, target, threads)
        self.target = "numpy" if self._engine is None else self._engine.target
        self._output = program.values[-1].shape
        self._parts: dict[tuple[int, int], Model] = {}

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's results, float32 (N, ...).

        Args:
            x: float32, one or more samples of the shape the network was packed with.

        Raises:
            InputError: another shape or dtype, or a value that is not finite.
        """
        if self._engine is None:
            x = self._finite(self._fitting(x))
            return np.concatenate([self._result(chunk) for chunk in self._chunks(x)])
        x = np.ascontiguousarray(self._fitting(x))
        y = np.empty((len(x), *self._output), np.float32)
        # The engine looks for NaN in passing; where it is, is for the message to say.
        if not self._engine.run(x, y):
            self._finite(x)
        return y

    def trace(self, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the value after each op, by ``"INDEX:OP"`` or ``"INDEX:OP NAME"``.

        Bits come as int8 of -1 and +1, cells of 2 to 8 bits as uint8, sums and floats as float32;
        shapes (N, ...).

        Raises:
            InputError: as in a call.
        """
        traced: dict[str, NDArray[Any]] = {}
        value: NDArray[Any] = self._finite(self._fitting(x))
        for i, op in enumerate(self.program.ops):
            value = reference.apply(op, value, self.program.tensors)
            name = getattr(op, "name", None)
            traced[f"{i}:{op.op}" if name is None else f"{i}:{op.op} {name}"] = value
        return traced

    def run(self, start: int, stop: int, value: NDArray[Any]) -> NDArray[Any]:
        """Return the value after ops ``start`` to ``stop - 1``, given the value before them.

        On a native target this is a network of its own, whose bits come as float32.
        """
        if self._engine is None:
            for op in self.program.ops[start:stop]:
                value = reference.apply(op, value, self.program.tensors)
            return value
        if (start, stop) not in self._parts:
            part = self.program.part(start, stop)
            self._parts[start, stop] = Model(part, threads=self.threads, target=self.target)
        return self._parts[start, stop](value.astype(np.float32, copy=False))

    def stage_times(
        self, x: NDArray[np.float32], rounds: int = 100
    ) -> tuple[list[tuple[str, float]], int]:
        """Return (name, least microseconds) of each native stage, and the samples it ran on.

        Without a native engine there are no stages: ([], 0).
        """
        if self._engine is None:
            return [], 0
        x = np.ascontiguousarray(self._fitting(x))
        y = np.empty((len(x), *self.program.values[-1].shape), np.float32)
        times = self._engine.time_stages(x, y, rounds)
        names = self._engine.stage_names
        chunk = min(len(x), self._engine.chunk)
        return [(name, t / 1000) for name, t in zip(names, times, strict=True)], chunk

    def _result(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.run(0, len(self.program.ops), x).astype(np.float32, copy=False)

    def _chunks(self, x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        size = max(1, _CHUNK // _peak_elements(self.program))
        for start in range(0, max(len(x), 1), size):
            yield x[start : start + size]

    def _fitting(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return x, or raise InputError for another dtype or shape."""
        is_array = isinstance(x, np.ndarray)
        if is_array and x.dtype == np.float32 and x.ndim and x.shape[1:] == self.program.input:
            return x
        wanted = f"float32 of shape (N, {', '.join(map(str, self.program.input))})"
        if not is_array or x.dtype != np.float32:
            got = f"{x.dtype} array" if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                f"the network needs {wanted}, got {got}; prepare it as the training images were, "
                "for MNIST (pixels.astype(np.float32) - 128) / 128"
            )
        raise InputError(f"the network needs {wanted}, got shape {x.shape}")

    def _finite(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return x, or raise InputError for a number that is not finite."""
        if not np.isfinite(x).all():
            place = np.argwhere(~np.isfinite(x))[0].tolist()
            raise InputError(
                f"the network needs finite numbers, got {x[tuple(place)]} at index {place}"
            )
        return x


def _engine(program: Program, target: str | None, threads: int) -> Engine | None:
    """Return the native engine, or None for numpy; say so where numpy was not asked for."""
    wanted = target or os.environ.get("COARSEGRAD_TARGET") or None
    if wanted is not None:
        check_target(wanted)
    if wanted == "numpy" or not program.ops:
        return None
    if native_module() is None:
        _say_once("the native module is not built into this install; packed files run in numpy")
        return None
    try:
        engine = native.build(program, wanted, threads)
    except native.UnsupportedError as error:
        if wanted is not None:
            raise TargetError(
                f"the target {wanted!r} cannot run this network: {error}; use target='numpy'"
            ) from None
        _say_once(f"the native engine has no {error}; this network runs in numpy")
        return None
    if wanted is None and engine.target == "generic":
        _say_once(
            "this CPU has none of the instruction sets with fast bit kernels; using 'generic'"
        )
    return engine


def _say_once(message: str) -> None:
    # The interpreter's own registry of warnings shows each text once.
    warnings.warn(message, RuntimeWarning, stacklevel=5)


def _peak_elements(program: Program) -> int:
    """Return the most elements per sample that the executor holds at once."""
    peak = 1
    for op, before, after in zip(program.ops, program.values, program.values[1:], strict=False):
        peak = max(peak, math.prod(before.shape), math.prod(after.shape))
        if isinstance(op, Conv):
            window = op.groups * math.prod(op.shape[1:])
            peak = max(peak, window * math.prod(after.shape[1:]))
    return peak
