"""``coarsegrad summary``: a model or a packed file, layer by layer, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coarsegrad.cli.answer import Answer, columns
from coarsegrad.cli.completion import complete_source
from coarsegrad.cli.options import Averaged, Json, Shape, Weights

_WIDE = 100


def summary(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A run folder, a .cgrad file, or package.module:function.",
            autocompletion=complete_source,
            show_default=False,
        ),
    ],
    weights: Weights = None,
    shape: Shape = None,
    averaged: Averaged = False,
    as_json: Json = False,
) -> Answer:
    """Show a model layer by layer: bits, MACs, packed bytes."""
    from coarsegrad.cli.source import kind_of, resolve

    if kind_of(source) == "packed":
        if weights is not None or shape is not None or averaged:
            raise typer.BadParameter(
                f"{source} is a packed file; --weights, --input and --averaged are for models"
            )
        return _packed(Path(source))
    found = resolve(source, weights=weights, shape=shape, averaged=averaged)
    from coarsegrad import inspect

    summed = inspect.summary(found.model, found.example)
    # The plain form keeps to 80 columns; the table needs more than that for its exact numbers.
    shown = summed.table() if columns() >= _WIDE else str(summed)
    return Answer({"source": source, **summed.to_dict()}, (shown,))


def _packed(path: Path) -> Answer:
    from coarsegrad.cli.contents import contents

    found = contents(path)
    return Answer(found.to_dict(), (found.table(),))
