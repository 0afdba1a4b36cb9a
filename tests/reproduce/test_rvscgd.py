"""The items of the RVSCGD paper, in forms of a second, and what they say when a claim fails."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from coarsegrad.reproduce import Request, run
from coarsegrad.reproduce.rvscgd import descent, fig4, limit, moments, support


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    from coarsegrad import theory

    monkeypatch.setattr(support, "SIZES", {"equal": (2, 19, 20), "uniform": (2,), "gaussian": (5,)})
    monkeypatch.setattr(moments, "D", 3)
    monkeypatch.setattr(descent, "ITERATIONS", 120)
    whole, part = theory.rvscgd, theory.moments
    # eta = 1e-5 needs 1e5 iterations; 300 of eta = 1e-3 see the same curve.
    monkeypatch.setattr(fig4, "EVERY", 10)
    monkeypatch.setattr(
        theory, "rvscgd", lambda net, s, w, n, every=None: whole(net, s, w, min(n, 700), every)
    )
    monkeypatch.setattr(theory, "moments", lambda net, w, n: part(net, w, min(n, 20_000)))


def rows_of(table: Path) -> int:
    with table.open(newline="") as file:
        return len(list(csv.DictReader(file)))


@pytest.mark.parametrize(
    ("item", "verdicts"),
    [
        ("moments", ["holds", "holds", "holds", "does not hold"]),
        ("descent", ["holds", "does not hold", "holds after repair", "holds after repair",
                     "holds", "does not hold"]),
        ("limit", ["holds", "holds", "holds"]),
        ("support", ["holds", "does not hold", "does not hold", "holds"]),
        ("fig4", ["holds after repair", "holds"]),
    ],
)  # fmt: skip
def test_items_say_what_holds(item: str, verdicts: list[str], tmp_path: Path) -> None:
    report = run("rvscgd", item, Request(tmp_path, quick=True, seeds=3))
    table, picture = report.files
    assert table.name == f"{item}.csv"
    assert rows_of(table) >= 5
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert list(report.verdicts) == verdicts, [row.ours for row in report.rows]


def test_a_diverged_run_keeps_its_partial_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coarsegrad import theory
    from coarsegrad.errors import DivergenceError

    starts = theory.random_starts
    calls = []

    def poisoned(d: int, seeds: int = 20) -> object:
        calls.append(d)
        return starts(d, seeds) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(theory, "random_starts", poisoned)
    with pytest.raises(DivergenceError, match="diverged at iteration"):
        limit.run(Request(tmp_path, quick=True, seeds=2))
    assert not (tmp_path / "limit.csv").exists()
    assert rows_of(tmp_path / "limit.partial.csv") == 4
