from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from coarsegrad.cli.answer import Answer, answering, fit, say, show, to_json


def command(as_json: bool = False, code: int = 0) -> Answer:
    print("on the way")
    return Answer({"a": 1}, ("for people",), code)


def test_people_and_machines_get_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    answering(command)(as_json=False)
    assert capsys.readouterr() == ("on the way\nfor people\n", "")
    answering(command)(as_json=True)
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"a": 1}, "on the way\n")
    with pytest.raises(typer.Exit, match=r"^1$"):
        answering(command)(as_json=True, code=1)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(as_json: bool = False) -> Answer:
        print("on the way")
        raise KeyboardInterrupt("; go on with --resume")

    with pytest.raises(typer.Exit, match=r"^130$"):
        answering(interrupted)(as_json=True)
    out, err = capsys.readouterr()
    message = "interrupted; go on with --resume"
    assert json.loads(out) == {"error": {"kind": "KeyboardInterrupt", "message": message}}
    assert err == f"on the way\n{message}\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor(2.5), 2.5),
        (Path("a/b"), "a/b"),
        ((1, [2.0, None]), [1, [2.0, None]]),
        ({1: {"b": float("inf")}}, {"1": {"b": None}}),
        (True, True),
    ],
)
def test_json_has_what_json_has(value: object, expected: object) -> None:
    assert json.loads(to_json({"a": value})) == {"a": expected}


def test_lines_are_broken_at_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "x" * 60
    assert fit("short\n  kept  as it is") == "short\n  kept  as it is"
    assert fit(f"  one two-three {long} four") == f"  one two-three\n  {long}\n  four"
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(sys, "__stdout__", None)
    assert max(map(len, fit("word " * 50).splitlines())) in range(76, 81)


def test_tables_keep_to_the_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.table import Table

    monkeypatch.setenv("COLUMNS", "60")
    table = Table("a", "b")
    table.add_row("word " * 30, "[bold]x[/bold]")
    show(table)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    say("a remark")
    assert capsys.readouterr() == ("", "a remark\n")
