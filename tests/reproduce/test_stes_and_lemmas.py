"""The items on coarse derivatives and on the lemmas, small."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from coarsegrad.reproduce import Request
from coarsegrad.reproduce.coarse_gradient import lemmas, stes
from coarsegrad.theory.two_layer import Outcome


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_which_derivatives_train(tmp_path: Path) -> None:
    said: list[str] = []
    report = stes.run(Request(tmp_path, quick=True, seeds=2, show=said.append))
    assert [row.verdict for row in report.rows] == ["holds"] * 7
    assert report.rows[0].paper == "ReLU meets Assumption 2, converges"
    assert report.rows[0].ours.startswith("2 of 2 seeds at loss 0, median of these ")
    assert report.rows[6].paper == "Sigmoid fails Assumption 2"
    assert report.rows[6].ours.startswith("0 of 2 seeds at loss 0, loss of the others ")
    rows = table(report.files[0])
    assert [row["ste"] for row in rows] == [name for name in stes.TRAIN + stes.FAIL for _ in "01"]
    assert {row["iterations"] == "" for row in rows[8:]} == {True}
    assert report.files[1].stat().st_size < 80_000
    assert len(said) == 7


@pytest.mark.parametrize(("trains", "iterations", "verdict"), [
    (True, [5, 9], "holds"), (True, [5, -1], "differs"), (False, [-1, -1], "holds"),
    (False, [5, -1], "differs"),
])  # fmt: skip
def test_verdicts(trains: bool, iterations: list[int], verdict: str) -> None:
    t = torch.tensor(iterations)
    outcome = Outcome(t, (t < 0).double(), t.double(), t.double())
    assert stes._row("ReLU", outcome, trains=trains).verdict == verdict


def test_the_lemmas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lemmas, "QUICK", (lemmas.CASES[4], lemmas.CASES[6]))
    report = lemmas.run(Request(tmp_path, quick=True))
    assert [row.verdict for row in report.rows] == ["holds"] * 6
    assert report.rows[0].ours.startswith("1 runs, least ratio 1.")
    assert "0 decreases" in report.rows[4].ours
    assert not report.rows[5].ours.startswith("0 decreases")
    rows = table(report.files[0])
    assert {row["sixteenths"] for row in rows} == {"8", "4"}
    straight = next(row for row in rows if row["sixteenths"] == "8")
    assert straight["lemma53_verdict"] == "holds"
    assert float(straight["sum_squares"]) < float(straight["telescoped"])
    assert report.files[1].stat().st_size < 80_000
