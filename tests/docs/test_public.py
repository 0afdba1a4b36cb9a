"""Every public name of every room has a docstring, and so a place on the site."""

from __future__ import annotations

import importlib
from pathlib import Path

import griffe
import public
import pytest
import rooms

import test_architecture

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the site reads it: its source, not what runs."""
    loaded = griffe.load("coarsegrad", search_paths=[SOURCE])
    assert isinstance(loaded, griffe.Module)
    return loaded


def undocumented(package: griffe.Module, names: list[public.Name]) -> list[str]:
    """Return the paths without a docstring of their own."""
    found = {n.path: package[n.path.removeprefix("coarsegrad.")] for n in names}
    for path, thing in found.items():
        while thing.is_alias:
            thing = thing.target
        found[path] = thing
    return [path for path, thing in found.items() if not thing.has_docstring]


@pytest.mark.parametrize("room", public.rooms())
def test_public_names_are_documented(package: griffe.Module, room: str) -> None:
    names = public.names(room)
    assert names, f"{room} has no public name"
    assert importlib.import_module(f"coarsegrad.{room}").__doc__
    assert undocumented(package, names) == []


def test_the_documentation_test_can_fail(tmp_path: Path) -> None:
    folder = tmp_path / "coarsegrad"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "room.py").write_text(
        'Kind = int\nTold = int\n"""Told."""\n\n\ndef f():\n    pass\n\n\ndef g():\n    """G."""\n'
    )
    package = griffe.load("coarsegrad", search_paths=[tmp_path])
    assert isinstance(package, griffe.Module)
    names = [public.Name(n, f"coarsegrad.room.{n}") for n in ("Kind", "Told", "f", "g")]
    assert undocumented(package, names) == ["coarsegrad.room.Kind", "coarsegrad.room.f"]


def test_every_room_has_a_page() -> None:
    assert {*rooms.documented(), "cli", "_native"} >= set(test_architecture.TABLE)


def test_a_page_names_every_public_name() -> None:
    lines = rooms.page("data", {}).splitlines()
    assert "::: coarsegrad.data.mnist.mnist" in lines, "a function named like its file"
    assert "::: coarsegrad.data.Split" in lines, "an alias of a type"
    assert len([line for line in lines if line.startswith(":::")]) == 1 + len(public.names("data"))


def test_a_name_without_an_entry_on_the_built_site_is_found(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    for room in rooms.documented():
        anchors = "".join(f'<h2 id="{n.path}">' for n in public.names(room) if n.name != "mnist")
        (tmp_path / "reference" / f"{room}.html").write_text(anchors)
    assert rooms.missing(tmp_path) == ["data.mnist"]
