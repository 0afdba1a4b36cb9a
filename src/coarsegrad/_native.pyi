"""The compiled module; absent when built with COARSEGRAD_NATIVE=OFF."""

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

def cpu_features() -> list[str]:
    """The instruction sets for bit kernels that this CPU has and this system allows."""

def targets() -> list[tuple[str, str, bool, str]]:
    """(name, description, runs here, why not) of every kernel target, slowest first."""

optim: ModuleType
"""Fused steps of optimizers; ``coarsegrad.optim.fused`` is their door."""

testing: ModuleType
"""Single kernels, for tests and benchmarks."""

_Pair = tuple[int, int]
# kernel, stride, padding before, padding after, dilation; each (vertical, horizontal)
_Geometry = tuple[_Pair, _Pair, _Pair, _Pair, _Pair]
_Bytes = NDArray[np.uint8]
_Floats = NDArray[np.float32]

class Engine:
    """A network laid out for one target: add stages, seal, run.

    A stage that cannot be raises ValueError with the reason.
    """

    def __init__(self, target: str | None, shape: tuple[int, int, int]) -> None: ...
    def add_pack(self) -> None: ...
    def add_pack_levels(self, bits: int, thresholds: _Floats, flips: _Bytes | None) -> None: ...
    def add_unpack(self, levels: _Floats) -> None: ...
    def add_relu(self) -> None: ...
    def add_pad(self, before: _Pair, after: _Pair, value: float) -> None: ...
    def add_flatten(self) -> None: ...
    def add_bit_layer(
        self,
        geometry: _Geometry,
        out: int,
        groups: int,
        pad: int,
        low: int,
        weights: _Bytes,
        weight_bits: int,
        odd_weights: bool,
        mask: _Bytes | None,
        thresholds: NDArray[np.int32] | None,
        bits: int,
        flips: _Bytes | None,
        scale: _Floats | None,
        shift: _Floats | None,
    ) -> None: ...
    def add_bit_pool(self, geometry: _Geometry, all_mask: _Bytes | None) -> None: ...
    def add_float_layer(
        self,
        geometry: _Geometry,
        out: int,
        groups: int,
        weights: _Floats,
        thresholds: _Floats | None,
        flips: _Bytes | None,
        scale: _Floats | None,
        shift: _Floats | None,
    ) -> None: ...
    def add_float_pool(self, geometry: _Geometry, average: bool) -> None: ...
    def seal(self, threads: int, arenas: int) -> None: ...
    def run(self, x: _Floats, y: _Floats) -> bool:
        """Fill y; return False, y untouched, if a number of x is not finite."""
    def time_stages(self, x: _Floats, y: _Floats, rounds: int) -> list[float]: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def target(self) -> str: ...
    @property
    def stage_names(self) -> list[str]: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def chunk(self) -> int: ...
