"""The room's front door."""

from __future__ import annotations

import subprocess
import sys

import pytest

import coarsegrad.data

PROGRAM = "import sys, coarsegrad.data as data; {}; print([m for m in {} if m in sys.modules])"
HEAVY = ["torch", "sklearn", "rich", "PIL", "scipy", "lightning"]


def loaded(statement: str) -> str:
    command = [sys.executable, "-c", PROGRAM.format(statement, HEAVY)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_room_loads_nothing_heavy() -> None:
    assert loaded("data.mnist, data.cifar10, data.digits, data.Images, data.pixels") == "[]"


def test_the_test_above_can_fail() -> None:
    assert loaded("import rich") == "['rich']"


def test_every_public_name_is_there() -> None:
    for name in coarsegrad.data.__all__:
        assert getattr(coarsegrad.data, name).__module__.startswith(("coarsegrad.data.", "typing"))
    assert set(coarsegrad.data.__all__) <= set(dir(coarsegrad.data))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'coarsegrad\.data' has no attribute 'cifar'"):
        coarsegrad.data.cifar  # noqa: B018
