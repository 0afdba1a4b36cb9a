"""The items on clipping, small: their tables, figures, verdicts, and a run that diverges."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coarsegrad import theory
from coarsegrad.errors import DivergenceError
from coarsegrad.reproduce import Report, Request
from coarsegrad.reproduce.clipping import duel, fig1, fit, functions, rnn, steps, tuned
from coarsegrad.theory import Count


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def check_files(report: Report) -> None:
    for file in report.files[1:]:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert 5_000 < file.stat().st_size < 80_000


def test_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "CELLS", 400)
    report = functions.run(Request(tmp_path, quick=True))
    check_files(report)
    assert [row.verdict for row in report.rows] == [
        "holds", "holds", "holds", "does not hold", "holds", "holds",
    ]  # fmt: skip
    assert [float(row["smooth"]) for row in table(report.files[0])] == pytest.approx([1] * 5)


def test_steps(tmp_path: Path) -> None:
    report = steps.run(Request(tmp_path, quick=True))
    check_files(report)
    assert report.rows[0].ours == "h_n / h_c from 0.5000 to 0.9999"
    assert report.rows[0].verdict == "holds"


def test_fit(tmp_path: Path) -> None:
    report = fit.run(Request(tmp_path, quick=True))
    check_files(report)
    assert [row.verdict for row in report.rows] == ["holds", "does not hold"] * 2


def small(m: float, *_: object, slow: bool) -> Iterator[Count]:
    """Stand in for the experiment: counts of its shape."""
    n = round(321 * m / (math.log(m) + 1))
    yield Count("flat", "gd", m, n, n / 1.05, None)
    yield Count("flat", "clipped", m, 6301, None, 50_020.0)
    yield Count("steep", "gd", m, 6)
    yield Count("steep", "clipped", m, 61, None, 4e5)
    if slow:
        yield Count("flat", "gd (12)", m, 13_861, None, 1.1e5)


def test_duel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory, "class_experiment", small)
    report = duel.run(Request(tmp_path, quick=True))
    check_files(report)
    assert [row.verdict for row in report.rows] == ["holds"] * 4 + ["holds after repair"]
    assert "6 diverge" in report.rows[3].ours
    assert len(table(tmp_path / "duel.csv")) == 18


def test_duel_of_other_growth_differs() -> None:
    counts = [
        Count("flat", method, m, n, None, 100.0)
        for m, n in ((10.0, 10), (100.0, 100), (1000.0, 1000))
        for method in ("gd", "clipped")
    ]
    assert [row.verdict for row in duel.compared(counts)] == ["differs", "differs", "does not hold"]


def test_a_diverging_run_keeps_its_table_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(m: float, *_: object, slow: bool) -> Iterator[Count]:
        yield Count("flat", "gd", m, 973)
        theory.descend([theory.steep()], [3.0], theory.fixed_rate(10.0), 1e-2, 100)

    monkeypatch.setattr(theory, "class_experiment", diverges)
    with pytest.raises(DivergenceError, match="descend diverged at iteration"):
        duel.run(Request(tmp_path, quick=True))
    assert [file.name for file in tmp_path.iterdir()] == ["duel.partial.csv"]
    assert table(tmp_path / "duel.partial.csv")[0]["iterations"] == "973"


def test_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four M: what is proved and tuned is tested in tests/theory."""

    def counts(plane: Any, methods: tuple[str, ...]) -> list[Count]:
        n = {"gd (12)": 10 * plane.m, "gd tuned": plane.m / 2}
        name = plane.curve.name
        return [Count(name, m, plane.m, round(n.get(m, 90)), None, 1e9) for m in methods]

    monkeypatch.setattr(
        theory, "proved_steps", lambda p: counts(p, ("gd (12)", "clipped", "normalised"))
    )
    monkeypatch.setattr(theory, "tuned_steps", lambda p: counts(p, ("gd tuned", "clipped tuned")))
    report = tuned.run(Request(tmp_path, quick=True))
    check_files(report)
    assert [row.verdict for row in report.rows] == ["holds"] * 3
    assert "tuned: 5,000 against 90 iterations at M = 10000" in report.rows[0].ours
    assert len(table(tmp_path / "tuned.csv")) == 2 * 4 * 5


def test_fig1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recurrent network in twelve steps, the perceptron replaced by its digits form."""
    follow = rnn.follow
    monkeypatch.setattr(
        rnn, "follow", lambda training, steps, every, show: follow(training, 12, 3, show)
    )
    monkeypatch.setattr(fig1, "MNIST", ("MNIST binary",))
    own = {"data": "digits", "epochs": 1, "limit": 320, "smoothness": 1, "width": 16}
    monkeypatch.setattr(fig1, "_QUICK", own)
    report = fig1.run(Request(tmp_path, quick=True))
    check_files(report)
    assert [row.verdict for row in report.rows[-3:]] == ["not tested yet"] * 3
    rows = table(tmp_path / "quick-fig1.csv")
    assert [row["setting"] for row in rows] == [
        *["RNN clipped, weights x1"] * 4, *["RNN plain, weights x1"] * 4, *["MNIST binary"] * 5,
    ]  # fmt: skip
    assert all(row["hessian"] for row in rows[:8])
    assert "correlation of the logarithms" in report.rows[0].ours


@pytest.mark.slow
def test_the_long_forms_of_the_contests(tmp_path: Path) -> None:
    for item in (duel, tuned):
        report = item.run(Request(tmp_path))
        assert {row.verdict for row in report.rows} <= {"holds", "holds after repair"}
