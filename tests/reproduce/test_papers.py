"""The papers at hand, the requests their items take, and the tables that they leave."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from coarsegrad.reproduce import Request, paper, papers, recorded, run


@pytest.mark.parametrize("name", papers())
def test_every_item_has_run(name: str) -> None:
    found = paper(name)
    assert found.title
    assert found.items
    for item in found.items:
        module = importlib.import_module(f"coarsegrad.reproduce.{name.replace('-', '_')}.{item}")
        assert list(inspect.signature(module.run).parameters) == ["request"]


def test_unknown_names_are_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no paper 'x'; there are: .*coarse-gradient"):
        paper("x")
    with pytest.raises(ValueError, match="has no item 'fig4'; it has: lemmas, fig3"):
        run("coarse-gradient", "fig4", Request(tmp_path))


@pytest.mark.parametrize(("seeds", "out", "message"), [
    (0, "", "seeds of 1 or more, got 0"),
    (-3, "", "seeds of 1 or more, got -3"),
    (None, "nowhere", "out to be a folder, got '.*nowhere'"),
])  # fmt: skip
def test_bad_requests(seeds: int | None, out: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        Request(tmp_path / out, seeds=seeds)


def test_seeds(tmp_path: Path) -> None:
    assert Request(tmp_path).seeds_or(30) == 30
    assert Request(tmp_path, seeds=2).seeds_or(30) == 2


def test_a_table_that_was_finished(tmp_path: Path) -> None:
    with recorded(tmp_path / "a.csv") as record:
        record.add({"seed": 0, "loss": None})
        assert not (tmp_path / "a.csv").exists()
        record.add({"seed": 1, "loss": 0.25})
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "seed,loss\n0,\n1,0.25\n"


def test_a_run_that_fails_keeps_its_rows_marked_and_the_old_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("older")

    def broken() -> None:
        with recorded(tmp_path / "a.csv") as record:
            record.add({"seed": 0})
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        broken()
    assert (tmp_path / "a.partial.csv").read_text() == "seed\n0\n"
    assert (tmp_path / "a.csv").read_text() == "older"
    with recorded(tmp_path / "a.csv") as record:
        assert not record.partial.exists(), "rows of an older run"


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    with recorded(tmp_path / "a.csv") as record:
        record.add({"seed": 0})
        with pytest.raises(ValueError, match=r"columns \['seed'\], got \['sead'\]"):
            record.add({"sead": 1})
    with (
        recorded(tmp_path / "b.csv") as record,
        pytest.raises(ValueError, match=r"columns \['seed'\], got \['sead'\]"),
    ):
        record.add({"seed": 0}, {"sead": 1})
    assert (tmp_path / "b.csv").read_text().strip() == "", "all rows of a call or none"


@pytest.mark.parametrize(("item", "only", "message"), [
    ("lemmas", {"ste": ("relu",)}, "lemmas of coarse-gradient cannot be run for some 'ste' only"),
    ("table2", {"bits": ("2",)}, "some 'bits' only; it knows: layout, precision, ste, seed"),
    ("table2", {"ste": ("relu", "rely")}, r"no ste=rely; it has: none, relu, .* mean 'relu'\?"),
    ("table2", {"seed": ("-1",)}, "no seed=-1; it has: a number from 0 on"),
])  # fmt: skip
def test_parts_that_an_item_does_not_have(
    item: str, only: dict[str, tuple[str, ...]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        run("coarse-gradient", item, Request(tmp_path, only=only))
