"""``coarsegrad predict``: a packed file on samples, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coarsegrad.cli.answer import Answer
from coarsegrad.cli.options import Json, PackedName


def predict(
    file: PackedName,
    x: Annotated[
        Path,
        typer.Argument(
            metavar="X.npy",
            help="float32 samples, (N, ...), as numpy.save wrote them.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="Y.npy", help="Write the results, float32 (N, ...)."),
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Run a packed file on samples; print their classes. Needs no PyTorch."""
    import numpy as np

    from coarsegrad import runtime
    from coarsegrad.cli.paths import free_place, load_array, packed_file
    from coarsegrad.files import replacing

    path = packed_file(file)
    if out is not None:
        free_place(out)
    model = runtime.load(path)
    y = model(load_array(x))
    if out is not None:
        with replacing(out) as temporary, temporary.open("wb") as target:
            np.save(target, y)
    classes = [int(row.argmax()) for row in y]
    document = {"file": path, "target": model.target, "out": out, "classes": classes}
    return Answer(document, tuple(str(label) for label in classes))
