"""``coarsegrad bench``: a packed file beside its float twin."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.options import Json, PackedName

if TYPE_CHECKING:
    from coarsegrad.bench import Comparison


def bench(
    file: PackedName,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples in a call.")] = 1,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Cores for every contestant.")
    ] = 1,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="A target that `doctor` lists.")
    ] = None,
    peers: Annotated[
        bool, typer.Option(help="Time the float twin in torch and ONNX Runtime too.")
    ] = True,
    as_json: Json = False,
) -> Answer:
    """Time a packed file, per stage and whole, beside its float twin."""
    from coarsegrad.bench import compare
    from coarsegrad.cli.paths import packed_file

    found = compare(packed_file(file), batch=batch, threads=threads, target=target, peers=peers)
    return Answer(dataclasses.asdict(found), tables(found))


def tables(found: Comparison) -> tuple[Any, ...]:
    """Return the comparison for people: what it was measured on, contestants, stages."""
    from rich.table import Table

    machine = found.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    head = (
        f"{found.file}: batch {found.batch}, threads {found.threads}, target {found.target}, "
        f"load in {found.load_seconds * 1e3:.1f} ms\n{machine.cpu}, {machine.cores} cores, "
        f"load {machine.load:.1f}\n{versions}"
    )
    table = Table("", "us per call", "us per sample", "times ours")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in found.contestants:
        per_call = row.seconds * 1e6
        per_sample = per_call / found.batch
        table.add_row(row.name, f"{per_call:.1f}", f"{per_sample:.2f}", f"{row.ratio:.1f}x")
    if not found.stages:
        return head, table
    stages = Table(f"stage, {found.chunk} samples", "us, least of 100")
    stages.columns[1].justify = "right"
    for stage in found.stages:
        stages.add_row(stage.name, f"{stage.microseconds:.2f}")
    return head, table, stages
