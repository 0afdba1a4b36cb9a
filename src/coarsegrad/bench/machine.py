"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Processor, versions, and how busy the machine was before the measurement."""

    cpu: str
    cores: int
    load: float
    versions: dict[str, str]


def this_machine() -> Machine:
    """Return the machine's description.

    >>> this_machine().cores >= 1
    True
    """
    versions = {"python": platform.python_version()}
    for name in ("coarsegrad", "numpy", "torch", "onnxruntime"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Machine(_cpu(), os.cpu_count() or 1, load, versions)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    return (
        f"{found.get('model name', platform.machine())} "
        f"(family {found.get('cpu family', '?')}, model {found.get('model', '?')})"
    )
