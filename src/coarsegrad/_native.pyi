"""The compiled module; absent when built with COARSEGRAD_NATIVE=OFF."""

from types import ModuleType

def cpu_features() -> list[str]:
    """The instruction sets for bit kernels that this CPU has and this system allows."""

def targets() -> list[tuple[str, str, bool, str]]:
    """(name, description, runs here, why not) of every kernel target, slowest first."""

testing: ModuleType
"""Single kernels, for tests and benchmarks."""
