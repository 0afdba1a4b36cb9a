"""What can run a packed file here: the native kernels' targets, and numpy."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from coarsegrad.errors import TargetError, nearest


class Target(NamedTuple):
    """One way to run a packed file; ``reason`` says why it does not run here."""

    name: str
    description: str
    runs: bool
    reason: str


def native_module() -> ModuleType | None:
    """Return the compiled module, or None where it was not built."""
    try:
        from coarsegrad import _native
    except ImportError:
        return None
    return _native


def targets() -> list[Target]:
    """Return every target, slowest first; the last that runs is the default.

    >>> targets()[0].name
    'numpy'
    """
    native = native_module()
    found = [Target("numpy", "the reference, in numpy", True, "")]
    if native is None:
        return found
    return found + [Target(*entry) for entry in native.targets()]


def check_target(name: str) -> None:
    """Raise TargetError unless ``name`` is a target that runs here."""
    known = {target.name: target for target in targets()}
    if name not in known:
        why = "" if native_module() else "; the native module is not built into this install"
        raise TargetError(
            f"there is no target {name!r}.{nearest(name, known)} "
            f"Targets here: {', '.join(known)}{why}"
        )
    if not known[name].runs:
        able = [target.name for target in known.values() if target.runs]
        raise TargetError(
            f"the target {name!r} does not run on this machine: {known[name].reason}; "
            f"these do: {', '.join(able)}"
        )
