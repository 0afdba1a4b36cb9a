"""Fig. 3: its table, its figures, and when its statements count as holding."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from coarsegrad.reproduce import Request
from coarsegrad.reproduce.coarse_gradient import fig3
from coarsegrad.reproduce.coarse_gradient.fig3_rows import Cell, compared
from coarsegrad.theory.two_layer import Setting, experiment


def cell(sixteenths: int, iterations: list[int], norm: float = 50.0, noise: float = 0.0) -> Cell:
    n = len(iterations)
    return Cell(noise, sixteenths, 500, iterations, [0.0] * n, [norm] * n, [45.0] * n)


def cells(*some: Cell) -> dict[tuple[float, int], Cell]:
    return {(one.noise, one.sixteenths): one for one in some}


FALLING = [
    cell(2, [400, 420], 60), cell(4, [200, 220], 52), cell(6, [100, 110], 50),
    cell(8, [105, 100], 49),
]  # fmt: skip


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig3, "QUICK", fig3.Plan(5, (8, 7), {0.0: 400, 0.1: 30}))
    said: list[str] = []
    report = fig3.run(Request(tmp_path, quick=True, seeds=3, show=said.append))
    names = [file.name for file in report.files]
    assert names == ["fig3.csv", "fig3-iterations.png", "fig3-norm.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(names)
    for file in report.files[1:]:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert 5_000 < file.stat().st_size < 80_000
    rows = list(csv.DictReader((tmp_path / "fig3.csv").read_text().splitlines()))
    assert [(r["noise"], r["seed"]) for r in rows] == [
        (noise, seed) for noise in ("0.0", "0.1") for _ in (7, 8) for seed in "012"
    ]
    straight = experiment(Setting(math.pi / 2), 3, 400)
    found = [int(r["iterations"] or -1) for r in rows[3:6]]
    assert found == straight.iterations.tolist()
    assert rows[-1]["iterations"] == ""
    assert float(rows[-1]["loss"]) > 0
    assert len(said) == 4
    assert "3 seeds" in report.notes[-1]
    assert report.verdicts[2] == "not run", "30 iterations are too few to tell"


def test_a_run_that_is_stopped_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fig3, "QUICK", fig3.Plan(1, (7, 8), {0.0: 2}))

    def show(_: str) -> None:
        raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        fig3.run(Request(tmp_path, quick=True, show=show))
    assert [file.name for file in tmp_path.iterdir()] == ["fig3.partial.csv"]
    assert len((tmp_path / "fig3.partial.csv").read_text().splitlines()) == 2


def test_statements_that_hold() -> None:
    noisy = cell(8, [300, 310], noise=0.1)
    rows = compared(cells(*FALLING, noisy), quick=False)
    assert [row.verdict for row in rows] == ["holds"] * 5
    assert rows[3].ours == (
        "medians 410 at 2/16 pi, 210 at 4/16 pi, 105 at 6/16 pi, 102 at 8/16 pi"
    )


@pytest.mark.parametrize(("other", "verdicts"), [
    (cell(8, [105, -1], 49), ["differs", "holds", "not run", "differs", "holds"]),
    (cell(6, [-1, -1], 50), ["holds", "differs", "not run", "differs", "holds"]),
    (cell(8, [105, 100], 53), ["holds", "holds", "not run", "holds", "differs"]),
    (cell(2, [210, 205], 60), ["holds", "holds", "not run", "differs", "holds"]),
    (cell(8, [300, -1], noise=0.1), ["holds", "holds", "differs", "holds", "holds"]),
])  # fmt: skip
def test_statements_that_do_not(other: Cell, verdicts: list[str]) -> None:
    rows = compared({**cells(*FALLING), **cells(other)}, quick=False)
    assert [row.verdict for row in rows] == verdicts


def test_a_quick_run_cannot_tell_that_a_seed_fails() -> None:
    rows = compared({**cells(*FALLING), **cells(cell(8, [105, -1], 49))}, quick=True)
    assert rows[0].verdict == "not run"
    assert "1 of 2 runs at loss 0; not all at 8/16 pi with noise 0 (1 of 2" in rows[0].ours
