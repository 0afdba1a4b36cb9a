"""``coarsegrad pack``: a trained model into a file of bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.options import AsBuilt, Averaged, Json, Shape, SourceName, Weights

if TYPE_CHECKING:
    from coarsegrad.cli.source import Source


def pack(
    source: SourceName,
    weights: Weights = None,
    as_built: AsBuilt = False,
    shape: Shape = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.cgrad", help="The packed file [default: RUN/model.cgrad]."),
    ] = None,
    averaged: Averaged = False,
    as_json: Json = False,
) -> Answer:
    """Write a trained model as a packed file."""
    from coarsegrad.cli.paths import free_place
    from coarsegrad.cli.source import kind_of, needs_weights, resolve

    needs_weights(source, weights, as_built, "pack")
    if out is None and kind_of(source) == "function":
        raise typer.BadParameter(f"--out FILE.cgrad is needed to pack {source}")
    place = Path(source) / "model.cgrad" if out is None else free_place(out)
    found = resolve(source, weights=weights, shape=shape, averaged=averaged)
    document = write(found, place)
    return Answer(document, (sentence(document),))


def write(source: Source, out: Path) -> dict[str, Any]:
    """Pack into ``out``; return the file, its bytes, and those of the float32 parameters."""
    from coarsegrad import deploy

    deploy.pack(source.model, source.example, out)
    return {
        "file": out,
        "bytes": out.stat().st_size,
        "float_bytes": sum(4 * parameter.numel() for parameter in source.model.parameters()),
    }


def sentence(document: dict[str, Any]) -> str:
    """Return in words what ``write`` did."""
    size, floats = document["bytes"], document["float_bytes"]
    return (
        f"{document['file']}: {size:,} bytes; the float32 parameters take {floats:,}, "
        f"{floats / size:.1f}x"
    )
