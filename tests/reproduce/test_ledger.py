"""Tables of finished runs: resumed, shared, replaced row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from coarsegrad.errors import DataError
from coarsegrad.reproduce import Ledger

COLUMNS, KEY = ("net", "seed", "accuracy"), ("net", "seed")


def ledger(folder: Path, name: str = "a.csv") -> Ledger:
    return Ledger(folder / name, COLUMNS, KEY)


def row(net: str, seed: int, accuracy: float) -> dict[str, object]:
    return {"net": net, "seed": seed, "accuracy": accuracy}


def test_a_later_process_finds_what_was_added(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    assert first.rows == []
    assert not first.path.exists()
    first.add([row("b", 10, 0.5)])
    first.add([row("b", 9, 0.25), row("a", 0, 1.0)])
    again = ledger(tmp_path)
    assert [(r["net"], r["seed"]) for r in again.rows] == [("a", "0"), ("b", "9"), ("b", "10")]
    assert again.find(net="b", seed=9) == {"net": "b", "seed": "9", "accuracy": "0.25"}
    assert again.find(net="b", seed=1) is None


def test_a_row_takes_the_place_of_one_with_its_key(tmp_path: Path) -> None:
    table = ledger(tmp_path)
    table.add([row("a", 0, 0.1), row("a", 1, 0.2)])
    table.add([row("a", 0, 0.9)])
    assert (tmp_path / "a.csv").read_text() == "net,seed,accuracy\na,0,0.9\na,1,0.2\n"


def test_tables_beside_it_count_and_stay(tmp_path: Path) -> None:
    ledger(tmp_path, "a-other.csv").add([row("a", 0, 0.1), row("a", 1, 0.2)])
    ledger(tmp_path, "ab.csv").add([row("a", 7, 0.7)])
    table = ledger(tmp_path)
    table.add([row("a", 1, 0.3)])
    assert [r["accuracy"] for r in ledger(tmp_path).rows] == ["0.1", "0.3"]
    assert (tmp_path / "a.csv").read_text() == "net,seed,accuracy\na,1,0.3\n"
    assert "0.2" in (tmp_path / "a-other.csv").read_text()


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a\.csv needs rows with the columns \['net', 'seed', 'acc"
    ):
        ledger(tmp_path).add([{"net": "a", "seed": 0}])
    assert not (tmp_path / "a.csv").exists()
    (tmp_path / "a.csv").write_text("net,seed\na,0\n")
    with pytest.raises(
        DataError, match=r"a\.csv needs the columns net, seed, accuracy, got net, se"
    ):
        ledger(tmp_path)
