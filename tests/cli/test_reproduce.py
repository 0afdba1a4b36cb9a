"""coarsegrad reproduce: files, comparison, failures; the items are tested in tests/reproduce."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coarsegrad.errors import MissingDataError
from coarsegrad.reproduce import Comparison, Report, Request, recorded
from coarsegrad.reproduce.coarse_gradient import fig3, table2
from commandline import Run

WORDS = ("reproduce", "coarse-gradient", "fig3")


def measured(request: Request) -> Report:
    """Stand in for an item: a table of the request, and one row of each kind."""
    request.show("  at work")
    with recorded(request.out / "a.csv") as record:
        record.add({"quick": request.quick, "seeds": request.seeds_or(30)})
    rows = (
        Comparison("it converges", "30 of 30", "holds", "Fig. 3"),
        Comparison("99.10", "98.3", "differs", "Table 2"),
    )
    return Report("An item", rows, (record.path,), ("Not as in the paper.",))


def diverges(request: Request) -> Report:
    """Stand in for an item whose data are missing half way."""
    with recorded(request.out / "b.csv") as record:
        record.add({"seed": 0})
        raise MissingDataError("MNIST is not here")


def test_an_item(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig3, "run", measured)
    done = run(*WORDS)
    assert done.code == 0, done.err
    table = Path("runs/reproduce/coarse-gradient/a.csv")
    assert table.read_text() == "quick,seeds\nFalse,30\n"
    for said in ("at work", "it converges", "30 of 30", "holds", "differs", "Not as in the paper.",
                 f"written: {table}"):  # fmt: skip
        assert said in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_options_reach_the_item(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig3, "run", measured)
    done = run(*WORDS, "--quick", "--seeds", "3", "--out", "some/where", "--json")
    assert done.code == 0, done.err
    assert Path("some/where/a.csv").read_text() == "quick,seeds\nTrue,3\n"
    found = json.loads(done.out)
    assert (found["paper"], found["out"], found["quick"]) == ("coarse-gradient", "some/where", True)
    (item,) = found["items"]
    assert (item["item"], item["failure"], item["files"]) == ("fig3", None, ["some/where/a.csv"])
    assert item["rows"][1] == {
        "where": "Table 2", "paper": "99.10", "ours": "98.3", "verdict": "differs",
    }  # fmt: skip
    assert "at work" in done.err


def test_a_failure_is_1_and_its_rows_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig3, "run", diverges)
    done = run(*WORDS, "--out", "o")
    assert done.code == 1
    assert "failed: MNIST is not here" in done.out
    assert "partial, of a run that did not end: o/b.partial.csv" in done.out
    assert json.loads(run(*WORDS, "--json").out)["items"][0]["failure"] == "MNIST is not here"


def test_a_file_is_no_folder(run: Run) -> None:
    Path("o").touch()
    done = run(*WORDS, "--out", "o")
    assert (done.code, done.out) == (1, "")
    assert "o is a file; a folder is needed" in done.said


def test_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        table2, "run", lambda request: asked.append(request.only) or Report("", (), ())
    )
    words = ("reproduce", "coarse-gradient", "table2")
    done = run(*words, "--only", "ste=relu,seed=0", "--only", "seed=2")
    assert done.code == 0, done.err
    assert asked == [{"ste": ("relu",), "seed": ("0", "2")}]
    bad = {
        "ste": "--only needs KEY=VALUE, got 'ste'",
        "ste=": "KEY=VALUE",
        "ste=rely": "Did you mean 'relu'",
        "bits=2": "it knows: layout",
    }
    for given, said in bad.items():
        done = run(*words, "--only", given)
        assert (done.code, done.out) == (2, "")
        assert said in done.said
    assert run(*WORDS, "--only", "ste=relu").code == 2


def test_everything_but_trainings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import coarsegrad.reproduce as room

    asked: list[tuple[str, str, bool, Path]] = []

    def ran(name: str, item: str, request: Request) -> Report:
        asked.append((name, item, request.quick, request.out))
        return Report("", (), ())

    monkeypatch.setattr(room, "run", ran)
    done = run("reproduce", "--all", "--quick", "--out", "o")
    assert done.code == 0, done.err
    assert {name for name, *_ in asked} == set(room.papers())
    assert ("coarse-gradient", "stes", True, Path("o/coarse-gradient")) in asked
    assert ("bamsprod", "bounds", True, Path("o/bamsprod")) in asked
    assert not [one for one in asked if room.trains(one[0], one[1])]
    said = " ".join(done.out.split())
    assert "left out, since they train networks: " in said
    assert "coarse-gradient table2, coarse-gradient fig5, coarse-gradient fig6" in said
    found = json.loads(run("reproduce", "--all", "--json").out)
    assert [one["paper"] for one in found["papers"]] == list(room.papers())
    assert "coarse-gradient table2" in found["left_out"]


@pytest.mark.parametrize(("words", "said"), [
    ((), "a PAPER or --all is needed; papers: "),
    (("coarse-gradient", "--all"), "--all runs every paper whole; leave out PAPER"),
    (("--all", "--only", "seed=1"), "--all runs every paper whole; leave out --only"),
])  # fmt: skip
def test_a_paper_or_all_of_them(words: tuple[str, ...], said: str, run: Run) -> None:
    done = run("reproduce", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.said
