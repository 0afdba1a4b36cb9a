"""The public names of each room: what the reference pages show, and what must be documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import coarsegrad

ROOT = Path(__file__).parents[2]


class Name(NamedTuple):
    """A public name of a room, and where it is defined."""

    name: str
    path: str


def rooms() -> list[str]:
    """Return the rooms in the order of ARCHITECTURE.md's table, unlisted ones last."""
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    order = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    found = [m.name for m in pkgutil.iter_modules(coarsegrad.__path__) if m.name[0] != "_"]
    return sorted(found, key=lambda room: order.index(room) if room in order else len(order))


def names(room: str) -> list[Name]:
    """Return a room's public names: its ``__all__``, else the functions and classes it defines."""
    module = importlib.import_module(f"coarsegrad.{room}")
    found = getattr(module, "__all__", None) or [
        name
        for name, thing in vars(module).items()
        if name[0] != "_" and _is_code(thing) and thing.__module__ == module.__name__
    ]
    return [Name(name, _path(module, name)) for name in found]


def _is_code(thing: object) -> bool:
    return inspect.isclass(thing) or inspect.isfunction(thing)


def _path(module: ModuleType, name: str) -> str:
    """Return where the name is defined: a function may share its name with its file."""
    thing = getattr(module, name)
    if _is_code(thing) and thing.__module__.startswith("coarsegrad."):
        return f"{thing.__module__}.{thing.__qualname__}"
    return f"{module.__name__}.{name}"
