"""The items of the BAMSProd paper, small."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from coarsegrad.errors import DivergenceError
from coarsegrad.reproduce import Report, Request, paper, run
from coarsegrad.theory import online

EXPECTED = {
    "fig1": ["holds", "does not hold"],
    "stochastic": ["holds", "holds", "holds after repair"],
    "monitors": ["does not hold", "differs", "does not hold", "does not hold"],
    "bounds": ["not run", "does not hold", "holds after repair"],
    "counterexamples": ["does not hold", "holds", "holds", "holds after repair", "holds", "holds",
                        "not run", "holds after repair", "does not hold"],
}  # fmt: skip


def checked(item: str, request: Request) -> Report:
    report = run("bamsprod", item, request)
    table, picture = report.files
    assert list(csv.DictReader(table.read_text().splitlines()))
    assert picture.stat().st_size < 80_000
    return report


def shorter(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Cut every game and trace to so many steps."""
    play, trace = online.play, online.trace

    def briefly(twin: Any, problem: Any, steps: int, *rest: Any, **more: Any) -> Any:
        more.pop("at", None)
        return play(twin, problem, min(steps, most), *rest, **more)

    monkeypatch.setattr(online, "play", briefly)
    monkeypatch.setattr(
        online, "trace", lambda twin, problem, steps, *rest, **more:
        trace(twin, problem, min(steps, most), *rest, **more),
    )  # fmt: skip


@pytest.mark.parametrize("item", ["counterexamples", "stochastic", "clipping", "monitors",
                                  "bounds"])  # fmt: skip
def test_an_item_writes_its_table_and_picture(
    item: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter(monkeypatch, 300)
    said: list[str] = []
    report = checked(item, Request(tmp_path, quick=True, seeds=2, show=said.append))
    assert report.rows
    assert said


def test_the_landscape(tmp_path: Path) -> None:
    report = checked("fig1", Request(tmp_path, quick=True, seeds=12))
    assert [row.verdict for row in report.rows] == EXPECTED["fig1"]
    assert "does not say" in report.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("item", EXPECTED)
def test_the_quick_verdicts(item: str, tmp_path: Path) -> None:
    report = checked(item, Request(tmp_path, quick=True))
    assert [row.verdict for row in report.rows] == EXPECTED[item]


@pytest.mark.slow
def test_the_long_verdicts(tmp_path: Path) -> None:
    for item, changed in (("counterexamples", {6: "holds"}), ("bounds", {0: "does not hold"}),
                          ("monitors", {}), ("stochastic", {})):  # fmt: skip
        wanted = [changed.get(i, verdict) for i, verdict in enumerate(EXPECTED[item])]
        assert [row.verdict for row in checked(item, Request(tmp_path)).rows] == wanted
    (row,) = checked("clipping", Request(tmp_path)).rows
    assert row.verdict == "does not hold"


def test_trainings_are_told_apart_from_what_was_run(tmp_path: Path) -> None:
    report = run("bamsprod", "training", Request(tmp_path))
    assert report.files == ()
    verdicts = [row.verdict for row in report.rows]
    assert set(verdicts) == {"does not hold", "not tested yet"}
    untested = [row.paper for row in report.rows if row.verdict == "not tested yet"]
    for name in ("CIFAR-10", "ImageNet", "Penn Treebank", "VOC 2007"):
        assert any(name in claim for claim in untested)
    study = Path(__file__).parents[2].joinpath("docs/study-mnist.md").read_text()
    for figure in ("96.88", "96.95", "97.90", "97.97", "1.13 and 1.15"):
        assert figure in study


def test_a_diverged_run_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorter(monkeypatch, 50)
    briefly = online.play

    def fails(twin: Any, problem: Any, *rest: Any, **more: Any) -> Any:
        if problem == online.repaired1():
            raise DivergenceError("the run diverged by iteration 7")
        return briefly(twin, problem, *rest, **more)

    monkeypatch.setattr(online, "play", fails)
    with pytest.raises(DivergenceError, match="iteration 7"):
        run("bamsprod", "counterexamples", Request(tmp_path, quick=True))
    assert [file.name for file in tmp_path.iterdir()] == ["counterexamples.partial.csv"]


def test_the_paper() -> None:
    assert paper("bamsprod").items[0] == "fig1"
