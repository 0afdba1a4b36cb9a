"""The compiled module; absent when built with COARSEGRAD_NATIVE=OFF."""

def cpu_features() -> list[str]:
    """The instruction sets for bit kernels that this CPU has and this system allows."""
