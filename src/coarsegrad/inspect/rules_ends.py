"""Rules on both ends of a network. 1-bit weights there are a choice, and no finding."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from coarsegrad.inspect.findings import Finding
from coarsegrad.inspect.graph import Graph, has_bit_weights, has_bits
from coarsegrad.nn import LatentWeight

_SOURCE = "jiecaoyu/XNOR-Net-PyTorch#50"


def binarized_input(graph: Graph, batch: Tensor | None) -> Iterator[Finding]:
    """A sign of the model's own input; a batch of -1 and +1 alone shows that nothing is lost.

    Source: XNOR-Net-PyTorch#50; XNOR-Net (arXiv:1603.05279) keeps the first layer float.
    """
    if batch is not None and bool((batch.abs() == 1).all()):
        return
    for site in graph.sites():
        node = graph.origin(site.fed_by, "mean")
        if has_bits(site.quantizer) and graph.role(node) == "input":
            yield Finding(
                site.name,
                "binarized-input",
                "it takes the sign of the model's input: of a pixel, only whether it is below 0 "
                "is left, of pixels in [0, 1] nothing",
                "leave the first layer's input_quantizer out; its weights may be 1-bit",
                _SOURCE,
            )


def binarized_output(graph: Graph) -> Iterator[Finding]:
    """A result that comes out of a sign.

    Source: XNOR-Net-PyTorch#50.
    """
    for result in graph.results():
        node = graph.origin(result, "softmax")
        if has_bits(graph.module(node)):
            yield Finding(
                graph.name(node),
                "binarized-output",
                "the model's results are -1 and +1: classes tie, and a loss has two values",
                "remove the sign behind the last layer",
                _SOURCE,
            )


def unscaled_output(graph: Graph) -> Iterator[Finding]:
    """Sums of 1-bit weights as the model's result, without batch norm or scale.

    Source: BayesBiNN#1, where a batch norm at the output made the difference.
    """
    for result in graph.results():
        node = graph.origin(result, "softmax")
        layer = graph.module(node)
        if not has_bit_weights(layer) or _is_scaled(layer):
            continue
        assert isinstance(layer, LatentWeight)
        fan_in = math.prod(layer.weight.shape[1:])
        yield Finding(
            graph.name(node),
            "unscaled-output",
            f"its results are sums of {fan_in:,} products, about {math.sqrt(fan_in):.0f} in "
            "size, that no parameter scales: a softmax of them is saturated from the start",
            "put a batch norm behind it, or give its weight_quantizer a scale",
            "team-approx-bayes/BayesBiNN#1",
        )


def _is_scaled(layer: nn.Module | None) -> bool:
    assert isinstance(layer, LatentWeight)
    assert layer.weight_quantizer is not None
    return layer.weight_quantizer.split(layer.weight.detach())[1] is not None
