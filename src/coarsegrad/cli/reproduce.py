"""``coarsegrad reproduce``: a paper's figures and tables, measured again and compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli.answer import Answer, show
from coarsegrad.cli.completion import complete_paper
from coarsegrad.cli.options import Json

if TYPE_CHECKING:
    from coarsegrad.reproduce import Report


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[PAPER]",
            help="A paper, as coarse-gradient.",
            autocompletion=complete_paper,
            show_default=False,
        ),
    ] = None,
    item: Annotated[
        str, typer.Argument(metavar="ITEM", help="A figure or table of it, or all.")
    ] = "all",
    everything: Annotated[
        bool, typer.Option("--all", help="All papers, but for items that train a network.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small form, about a minute an item.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For CSV and PNG files; with --all, for a folder a paper "
            "[default: runs/reproduce/PAPER].",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Seeds 0 to N-1, not the item's number.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Run this part of an item only, as ste=relu; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Measure figures and tables of one paper or of all again."""
    from coarsegrad.errors import require
    from coarsegrad.reproduce import Request, papers, trains
    from coarsegrad.reproduce import paper as find

    _check_names(name, item, everything, only)
    wanted = [find(one) for one in (papers() if everything else (name or "",))]
    if everything:
        chosen = [(p, tuple(i for i in p.items if not trains(p.name, i))) for p in wanted]
    else:
        chosen = [(wanted[0], wanted[0].items if item == "all" else (item,))]
    filters = {p.name: _filters(p.name, items, only or []) for p, items in chosen}
    require("torch", "report", "reproduce")
    require("matplotlib", "report", "reproduce")
    found: list[dict[str, Any]] = []
    for paper, items in chosen:
        root = out or Path("runs") / "reproduce"
        place = _folder(out if out and not everything else root / paper.name)
        request = Request(place, quick=quick, seeds=seeds, show=show, only=filters[paper.name])
        shown = [_one(paper.name, one, request) for one in items]
        found.append({"paper": paper.name, "title": paper.title, "out": place, "quick": quick,
                      "items": shown})  # fmt: skip
    failed = any(entry["failure"] for one in found for entry in one["items"])
    closing = tuple(line for one in found for line in _closing(one["out"], one["items"]))
    if not everything:
        return Answer(found[0], closing, code=int(failed))
    left = [f"{p.name} {one}" for p, items in chosen for one in p.items if one not in items]
    closing += (f"left out, since they train networks: {', '.join(left)}",) if left else ()
    return Answer({"papers": found, "left_out": left}, closing, code=int(failed))


def _check_names(name: str | None, item: str, everything: bool, only: Sequence[str] | None) -> None:
    """Refuse what names no paper and item, or two different sets of them."""
    from coarsegrad.reproduce import paper, papers

    if everything:
        if name is not None or only:
            given = f"PAPER {name!r}" if name is not None else "--only"
            raise typer.BadParameter(f"--all runs every paper whole; leave out {given}, or --all")
        return
    if name is None:
        raise typer.BadParameter(f"a PAPER or --all is needed; papers: {', '.join(papers())}")
    if name not in papers():
        raise typer.BadParameter(f"there is no paper {name!r}; there are: {', '.join(papers())}")
    items = paper(name).items
    if item not in ("all", *items):
        raise typer.BadParameter(f"{name} has no item {item!r}; it has: {', '.join(items)}, all")


def _filters(name: str, items: Sequence[str], given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what ``--only`` asks for, values by key, as every item understands it."""
    from coarsegrad.reproduce import check_only

    found: dict[str, tuple[str, ...]] = {}
    for pair in ",".join(given).split(",") if given else ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise typer.BadParameter(f"--only needs KEY=VALUE, got {pair!r}")
        found[key] = (*found.get(key, ()), value)
    try:
        for item in items:
            check_only(name, item, found)
    except ValueError as error:
        raise typer.BadParameter(f"--only: {error}") from None
    return found


def _folder(out: Path) -> Path:
    """Return ``out``, made if need be, before anything is measured."""
    from coarsegrad.errors import SourceError

    if out.exists() and not out.is_dir():
        raise SourceError(f"{out} is a file; a folder is needed: --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _one(name: str, item: str, request: Any) -> dict[str, Any]:
    """Run one item and show it; an error of coarsegrad's is its failure, and others go on."""
    from coarsegrad.errors import CoarsegradError
    from coarsegrad.reproduce import Report, run

    show(f"{name} {item}{', quick' if request.quick else ''}")
    start = time.perf_counter()
    try:
        report = run(name, item, request)
    except CoarsegradError as error:
        report = Report(item, (), (), failure=str(error))
    show(*_shown(report))
    return {"item": item, **to_dict(report), "seconds": time.perf_counter() - start}


def to_dict(report: Report) -> dict[str, Any]:
    """Return what ``--json`` says of one item."""
    rows = [
        {"where": row.where, "paper": row.paper, "ours": row.ours, "verdict": row.verdict}
        for row in report.rows
    ]
    return {
        "title": report.title, "rows": rows, "files": report.files, "notes": report.notes,
        "failure": report.failure,
    }  # fmt: skip


def _shown(report: Report) -> list[Any]:
    from rich.table import Table

    parts: list[Any] = []
    if report.rows:
        table = Table("the paper", "here", "verdict", title=report.title, show_lines=True)
        for row in report.rows:
            table.add_row(row.paper, row.ours, row.verdict)
        parts.append(table)
    parts += report.notes
    if report.failure:
        parts.append(f"failed: {report.failure}")
    return parts


def _closing(place: Path, found: list[dict[str, Any]]) -> tuple[str, ...]:
    files = sorted(str(file) for entry in found for file in entry["files"])
    partial = sorted(str(file) for file in place.glob("*.partial.csv"))
    lines = [f"written: {', '.join(files)}"] if files else []
    lines += [f"partial, of a run that did not end: {', '.join(partial)}"] if partial else []
    return tuple(lines)
