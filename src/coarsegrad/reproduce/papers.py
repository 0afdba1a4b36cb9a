"""The papers at hand and their items, found in this room's folders."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import final

from coarsegrad.errors import nearest
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
    """Run one item of a paper; one that says ``FIXED_SEEDS = True`` notes that it takes no number.

    Args:
        name: the paper, one of ``papers()``.
        item: one of its ``items``.
        request: where to write, how long, how many seeds.

    Raises:
        ValueError: the paper or the item does not exist, or ``only`` says what it has not.
        MissingExtraError: the item needs a package that is not installed.
    """
    check_only(name, item, request.only)
    module = _item(name, item)
    found: Callable[[Request], Report] = module.run
    report = found(request)
    if request.seeds is not None and getattr(module, "FIXED_SEEDS", False):
        note = f"A number of seeds, {request.seeds}, has no effect here: {item} has its own."
        report = dataclasses.replace(report, notes=(*report.notes, note))
    return report


def check_only(name: str, item: str, only: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse what a request's ``only`` may not say of an item.

    An item that can run in part has ``FILTERS``: for each key its values, or None for any number
    from 0 on.

    Raises:
        ValueError: the paper or the item does not exist; the item has no such key, or not this
            value of it.

    >>> check_only("coarse-gradient", "table2", {"seed": ("0", "1")})
    """
    filters: Mapping[str, tuple[str, ...] | None] = getattr(_item(name, item), "FILTERS", {})
    for key, values in only.items():
        if key not in filters:
            raise ValueError(
                f"{item} of {name} cannot be run for some {key!r} only; "
                f"it knows: {', '.join(filters) or 'no such keys'}"
            )
        allowed = filters[key]
        for value in values:
            if not (value.isdecimal() if allowed is None else value in allowed):
                legal = "a number from 0 on" if allowed is None else ", ".join(allowed)
                raise ValueError(
                    f"{item} of {name} has no {key}={value}; it has: {legal}."
                    + nearest(value, allowed or ())
                )


def trains(name: str, item: str) -> bool:
    """Return whether an item trains a network on a data set: its module says ``TRAINS = True``.

    Such an item takes minutes even when quick, so that a run of everything leaves it out.

    Raises:
        ValueError: the paper or the item does not exist.

    >>> trains("coarse-gradient", "table2"), trains("coarse-gradient", "stes")
    (True, False)
    """
    return bool(getattr(_item(name, item), "TRAINS", False))


def _item(name: str, item: str) -> ModuleType:
    items = paper(name).items
    if item not in items:
        raise ValueError(f"{name} has no item {item!r}; it has: {', '.join(items)}")
    return importlib.import_module(f"{_module(name)}.{item}")


def _module(name: str) -> str:
    return f"{__package__}.{name.replace('-', '_')}"
