"""``coarsegrad verify``: the proof that a packed file computes what its model computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.options import AsBuilt, Averaged, Batch, Json, Shape, SourceName, Weights

if TYPE_CHECKING:
    from coarsegrad.deploy.verify import Report


def verify(
    source: SourceName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The packed file [default: RUN/model.cgrad]."),
    ] = None,
    weights: Weights = None,
    as_built: AsBuilt = False,
    shape: Shape = None,
    batch: Batch = None,
    images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Samples to compare layer by layer.")
    ] = 1000,
    averaged: Averaged = False,
    as_json: Json = False,
) -> Answer:
    """Prove, layer by layer, that a packed file computes the same."""
    from coarsegrad import deploy
    from coarsegrad.cli.paths import packed_file
    from coarsegrad.cli.source import batch as batch_of
    from coarsegrad.cli.source import kind_of, needs_weights, resolve

    needs_weights(source, weights, as_built, "verify")
    if file is None and kind_of(source) == "function":
        raise typer.BadParameter(f"verify {source} needs the packed file too: verify SOURCE FILE")
    found = resolve(source, weights=weights, shape=shape, averaged=averaged)
    path = packed_file(Path(source) if file is None else file)
    taken = batch_of(found, batch, images)
    report = deploy.verify(found.model, path, taken.x)
    return Answer(to_dict(report, path, taken.what), (f"on {taken.what}:", str(report)))


def to_dict(report: Report, file: Path, what: str) -> dict[str, Any]:
    """Return what ``--json`` says of a report."""
    return {
        "file": file,
        "on": what,
        **{key: value for key, value in vars(report).items() if key != "layers"},
        "compared_bits": report.compared_bits,
        "differing_bits": report.differing_bits,
        "layers": [dataclasses.asdict(layer) for layer in report.layers.values()],
    }
