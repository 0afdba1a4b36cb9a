"""The papers at hand and their items, found in this room's folders."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from coarsegrad.reproduce.report import Report, Request


@final
@dataclass(frozen=True)
class Paper:
    """A paper of this room.

    Attributes:
        name: as the command line has it, ``coarse-gradient``.
        title: the first line of its folder's docstring.
        items: the figures and tables that can be run, in order.
    """

    name: str
    title: str
    items: tuple[str, ...]


def papers() -> tuple[str, ...]:
    """Return the names of the papers at hand.

    >>> "coarse-gradient" in papers()
    True
    """
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return tuple(sorted(m.name.replace("_", "-") for m in found if m.ispkg))


def paper(name: str) -> Paper:
    """Return a paper by its name.

    Raises:
        ValueError: there is none of this name; the message lists those there are.

    >>> paper("coarse-gradient").items[0]
    'lemmas'
    """
    if name not in papers():
        raise ValueError(f"there is no paper {name!r}; there are: {', '.join(papers())}")
    module = importlib.import_module(_module(name))
    return Paper(name, (module.__doc__ or "").partition("\n")[0], tuple(module.ITEMS))


def run(name: str, item: str, request: Request) -> Report:
    """Run one item of a paper.

    Args:
        name: the paper, one of ``papers()``.
        item: one of its ``items``.
        request: where to write, how long, how many seeds.

    Raises:
        ValueError: the paper or the item does not exist.
        MissingExtraError: the item needs a package that is not installed.
    """
    items = paper(name).items
    if item not in items:
        raise ValueError(f"{name} has no item {item!r}; it has: {', '.join(items)}")
    found: Callable[[Request], Report] = importlib.import_module(f"{_module(name)}.{item}").run
    return found(request)


def _module(name: str) -> str:
    return f"{__package__}.{name.replace('-', '_')}"
