"""``coarsegrad doctor``: what is here, what is missing, and the command that installs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.findings import data, machine, missing, runtime, versions
from coarsegrad.cli.options import Json

_NAMES = 16


def doctor(as_json: Json = False) -> Answer:
    """Show versions, targets, threads, data, and what is missing."""
    found: dict[str, Any] = {
        "versions": versions(),
        "machine": machine(),
        "runtime": runtime(),
        "data": data(),
    }
    found["missing"] = missing(found["versions"])
    works = found["runtime"]["works"]
    shown = (
        _versions(found["versions"]),
        _machine(found["machine"]),
        _runtime(found["runtime"]),
        _data(found["data"]),
        _missing(found["missing"]),
    )
    return Answer({**found, "ok": works}, shown, code=0 if works else 1)


def _versions(found: dict[str, str | None]) -> str:
    rows = [(name, version or "not installed") for name, version in found.items()]
    return _section("versions", [*rows, ("interpreter", sys.executable)])


def _machine(found: dict[str, Any]) -> str:
    rows = [
        ("CPU", found["cpu"]),
        ("cores", f"{found['cores']}, {found['usable_cores']} of them for this process"),
        ("load", f"{found['load']:.1f}"),
    ]
    if found["torch"] is not None:
        torch = found["torch"]
        rows.append(("torch", torch["error"] or f"{torch['threads']} threads, {torch['device']}"))
    return _section("machine", rows + list(found["environment"].items()))


def _runtime(found: dict[str, Any]) -> str:
    native = "not built into this install: packed files run in numpy"
    rows = [("native module", Path(found["native"]).name if found["native"] else native)]
    for target in found["targets"]:
        said = target["reason"] or target["description"]
        mark = ", the default" if target["name"] == found["default"] else ""
        rows.append((target["name"], f"{'runs' if target['runs'] else 'no'}{mark}: {said}"))
    return _section("runtime", [*rows, ("self-test", found["self_test"])])


def _data(found: dict[str, Any]) -> str:
    rows = [
        (name, "here" if entry["here"] else f"not here; {entry['advice']}")
        for name, entry in found["sets"].items()
    ]
    why = "COARSEGRAD_DATA" if "COARSEGRAD_DATA" in os.environ else "no COARSEGRAD_DATA is set"
    return _section(f"data: {found['folder']} ({why})", rows)


def _missing(found: list[dict[str, Any]]) -> str:
    rows = []
    for entry in found:
        rows += [
            (f"[{entry['extra']}]", f"{', '.join(entry['packages'])}: for {entry['uses']}"),
            ("", entry["command"]),
        ]
    return _section("missing", rows or [("nothing", "")])


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    """Return a title and aligned rows; what is too long goes on below its own column."""
    import textwrap

    from coarsegrad.cli.answer import columns

    lines = [title]
    for name, said in rows:
        head = f"  {name:<{_NAMES}}"
        lines += (
            [head.rstrip()]
            if not said
            else textwrap.wrap(
                said,
                columns(),
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)
