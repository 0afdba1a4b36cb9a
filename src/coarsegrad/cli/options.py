"""The arguments and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coarsegrad.cli.completion import complete_packed, complete_source

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A run folder, or package.module:function.",
        autocompletion=complete_source,
        show_default=False,
    ),
]
PackedName = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .cgrad file, or a run folder that holds model.cgrad.",
        autocompletion=complete_packed,
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE.pt",
        help="A function's trained weights: a state_dict, or a Lightning checkpoint.",
    ),
]
AsBuilt = Annotated[
    bool,
    typer.Option("--as-built", help="A function's weights are as it gives them: it loads its own."),
]
Shape = Annotated[
    str | None,
    typer.Option(
        "--input", metavar="SHAPE", help="One sample's shape, as 1,28,28; for a function."
    ),
]
Batch = Annotated[
    Path | None,
    typer.Option("--batch", metavar="X.npy", help="float32 samples (N, ...), as numpy.save wrote."),
]
Averaged = Annotated[
    bool, typer.Option("--averaged", help="A run's model at its averaged latent weights.")
]
