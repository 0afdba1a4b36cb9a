"""check: the mistakes that keep a binary network from learning, or from being packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from coarsegrad.errors import PackError
from coarsegrad.inspect import rules_batch, rules_ends, rules_layer, rules_optimizer, rules_order
from coarsegrad.inspect.findings import Finding, Findings, NotApplied
from coarsegrad.inspect.graph import Graph, graph_of
from coarsegrad.inspect.rules_pack import not_packable
from coarsegrad.inspect.watch import evaluation_copy, same_random_numbers

Rule = Callable[..., Iterator[Finding]]

OF_LAYERS: tuple[Rule, ...] = (
    rules_layer.unpackable_padding,
    rules_layer.data_dependent_scale,
    rules_layer.shared_quantizer,
    rules_layer.frozen_latents,
)
OF_THE_GRAPH: tuple[Rule, ...] = (
    rules_order.relu_before_sign,
    rules_order.missing_batch_norm,
    rules_order.misplaced_batch_norm,
    rules_order.idle_bias,
    rules_order.float_layer,
    rules_order.activation_apart,
    rules_ends.binarized_output,
    rules_ends.unscaled_output,
)
OF_THE_INPUT: tuple[Rule, ...] = (rules_ends.binarized_input,)
OF_THE_OPTIMIZER: tuple[Rule, ...] = (
    rules_optimizer.latents_without_box,
    rules_optimizer.latents_without_owner,
)
OF_THE_BATCH: tuple[Rule, ...] = (rules_batch.saturated_inputs, rules_batch.assumption2)
OF_A_LARGE_BATCH: tuple[Rule, ...] = (rules_batch.dead_inputs, rules_batch.one_bit_relu)
OF_PACKING: tuple[Rule, ...] = (not_packable,)


def check(
    model: nn.Module, batch: Tensor | None = None, optimizer: Optimizer | None = None
) -> Findings:
    """Look for what is known to kill binary networks; each finding names its cure.

    The model is left as it is, bit for bit: what runs is a copy in evaluation mode. A rule that
    lacks its batch or optimizer, or a model that torch.fx can trace, is listed in
    ``not_applied``.

    Args:
        model: any module with one input.
        batch: (N, ...) of real data; 32 samples or more for ``dead-inputs`` and ``one-bit-relu``.
            With it, the constants of Assumption 2 are measured for each quantized ReLU.
        optimizer: the one that trains the model.

    Raises:
        InputError: the model cannot be copied, or does not accept ``batch``.

    >>> import torch
    >>> from coarsegrad.models import small_cnn
    >>> len(check(small_cnn(), torch.rand(32, 1, 28, 28) * 2 - 1))
    0
    """
    with same_random_numbers(model):
        return _check(model, batch, optimizer)


def _check(model: nn.Module, batch: Tensor | None, optimizer: Optimizer | None) -> Findings:
    twin = evaluation_copy(model, "check")
    graph, untraceable = _graph(twin)
    readings = None if batch is None else rules_batch.read(evaluation_copy(model, "check"), batch)
    no_batch = "no batch was given" if batch is None else None
    few = no_batch
    if batch is not None and len(batch) < rules_batch.SAMPLES:
        few = f"{rules_batch.SAMPLES} samples are needed and the batch has {len(batch)}"
    found: list[Finding] = []
    skipped: list[NotApplied] = []

    def apply(rules: tuple[Rule, ...], reason: str | None, *arguments: Any) -> None:
        for rule in rules:
            if reason is None:
                found.extend(rule(*arguments))
            else:
                skipped.append(NotApplied(name_of(rule), reason))

    apply(OF_THE_INPUT, untraceable, graph, batch)
    apply(OF_THE_GRAPH, untraceable, graph)
    apply(OF_LAYERS, None, twin)
    apply(OF_THE_BATCH, no_batch, readings)
    apply(OF_A_LARGE_BATCH, few, readings)
    # The optimizer holds the caller's parameters, not the copy's.
    no_optimizer = "no optimizer was given" if optimizer is None else None
    apply(OF_THE_OPTIMIZER, no_optimizer, model, optimizer)
    apply(OF_PACKING, no_batch, twin, batch, found)
    return Findings(tuple(found), tuple(skipped), rules_batch.measured(readings or []))


def name_of(rule: Rule) -> str:
    """Return the name that a rule's findings carry."""
    return rule.__name__.replace("_", "-")


def _graph(model: nn.Module) -> tuple[Graph | None, str | None]:
    try:
        return graph_of(model), None
    except PackError as error:
        cause = error.__cause__ or error
        return None, f"torch.fx cannot trace the model ({cause})"
