"""Every item takes a number of seeds, or says that it has its own."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from coarsegrad.reproduce import Request, paper, papers, run

ITEMS = [(name, item) for name in papers() for item in paper(name).items]


@pytest.mark.parametrize(("name", "item"), ITEMS)
def test_an_item_reads_the_number_or_says_that_it_does_not(name: str, item: str) -> None:
    module = importlib.import_module(f"coarsegrad.reproduce.{name.replace('-', '_')}.{item}")
    reads = "request.seeds" in inspect.getsource(module)
    assert reads != getattr(module, "FIXED_SEEDS", False)


def test_a_number_without_effect_is_told(tmp_path: Path) -> None:
    told = "A number of seeds, 3, has no effect here: steps has its own."
    assert told in run("clipping", "steps", Request(tmp_path, quick=True, seeds=3)).notes
    assert told not in run("clipping", "steps", Request(tmp_path, quick=True)).notes
