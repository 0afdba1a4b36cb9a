"""``coarsegrad check``: what will go wrong, before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.cli.answer import Answer, say
from coarsegrad.cli.options import Averaged, Batch, Json, Shape, SourceName, Weights

if TYPE_CHECKING:
    from coarsegrad.cli.source import Source

_SAMPLES = 256


def check(
    source: SourceName,
    weights: Weights = None,
    shape: Shape = None,
    batch: Batch = None,
    averaged: Averaged = False,
    as_json: Json = False,
) -> Answer:
    """Look for mistakes that ruin binary networks; exit 1 if any.

    A run is looked at on a batch of its data and with the optimizer of its recipe; a function on
    --batch, its own example batch, or random numbers, and without an optimizer.
    """
    from coarsegrad.cli.source import batch as batch_of
    from coarsegrad.cli.source import resolve

    found = resolve(source, weights=weights, shape=shape, averaged=averaged)
    from coarsegrad import inspect

    x, what = batch_of(found, batch, _SAMPLES)
    findings = inspect.check(found.model, x, _optimizer(found))
    document = {"source": source, "on": what, **findings.to_dict()}
    shown = findings.table() if findings else str(findings)
    return Answer(document, (shown, f"looked at {what}"), code=1 if findings else 0)


def _optimizer(source: Source) -> Any:
    """Return the optimizer of a run's recipe; None for a function, whose training is unknown."""
    if source.recipe is None:
        return None
    from coarsegrad.errors import RecipeError
    from coarsegrad.train.optimizers import build_optimizer

    try:
        return build_optimizer(source.model, source.recipe)
    except RecipeError as error:
        say(f"the optimizer is left out of the check: {error}")
        return None
