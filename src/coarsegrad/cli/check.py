"""``coarsegrad check``: what will go wrong, before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coarsegrad.cli.answer import Answer, say
from coarsegrad.cli.options import Averaged, Batch, Json, Shape, SourceName, Weights

if TYPE_CHECKING:
    from coarsegrad.cli.source import Source
    from coarsegrad.inspect import Findings

_SAMPLES = 256
# Rules on what a batch does to the network: random numbers say nothing about real data.
_ON_DATA = ("dead-inputs", "saturated-inputs", "one-bit-relu")


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

    taken = batch_of(found, batch, _SAMPLES)
    findings = inspect.check(found.model, taken.x, _optimizer(found))
    if not taken.real:
        findings = _without(findings, _ON_DATA, "the batch is random numbers")
    document = {"source": source, "on": taken.what, **findings.to_dict()}
    shown = (str(findings), f"looked at {taken.what}")
    return Answer(document, shown, code=1 if findings else 0)


def _without(findings: Findings, rules: tuple[str, ...], reason: str) -> Findings:
    """Return the findings of all but these rules, which become rules that were not applied."""
    from coarsegrad.inspect import Findings, NotApplied

    found = tuple(finding for finding in findings if finding.rule not in rules)
    already = {skipped.rule for skipped in findings.not_applied}
    skipped = tuple(NotApplied(rule, reason) for rule in rules if rule not in already)
    return Findings(found, findings.not_applied + skipped)


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
