"""Rules on the order of layers, norms, activations and quantizers; each reads the traced graph.

A ReLU with a batch norm between it and the sign is no finding: the norm moves its result back
around zero. Nor is a max-pool between batch norm and sign, which is what a converted network
mostly has: the norm's shift learns to balance the bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coarsegrad.inspect.findings import Finding
from coarsegrad.inspect.graph import (
    Graph,
    has_bit_weights,
    has_bits,
    is_batch_norm,
    is_quantized,
)
from coarsegrad.quantizers import Quantizer


def relu_before_sign(graph: Graph) -> Iterator[Finding]:
    """A sign of values that are never negative: always +1.

    Source: BinaryNet replaces every ReLU by the sign (BinaryNet#28); XNOR-Net-PyTorch#76 asks.
    """
    for site in graph.sites():
        if not has_bits(site.quantizer):
            continue
        node = graph.origin(site.fed_by, "mean")
        made_by = graph.module(node)
        levels = made_by.levels if isinstance(made_by, Quantizer) else (-1.0,)
        if graph.role(node) == "rectifier" or min(levels) >= 0:
            yield Finding(
                graph.name(node),
                "relu-before-sign",
                f"its result is never negative, so the sign in {site.name} is always +1: no "
                "information passes",
                "remove it: the sign is the activation (nn.convert does so); or put a batch norm "
                "between the two",
                "MatthieuCourbariaux/BinaryNet#28",
            )


def missing_batch_norm(graph: Graph) -> Iterator[Finding]:
    """Sums of 1-bit weights that reach a quantizer without normalisation.

    Source: larq#698, accuracy near zero without batch norm; dabnn refuses such layers.
    """
    seen = set[str]()
    for site in graph.sites():
        node = graph.origin(site.fed_by, "mean", "rectifier")
        layer = graph.module(node)
        name = graph.name(node)
        if not has_bit_weights(layer) or name in seen:
            continue
        seen.add(name)
        assert isinstance(layer, nn.Module)
        assert isinstance(layer.weight, Tensor)
        fan_in = math.prod(layer.weight.shape[1:])
        yield Finding(
            name,
            "missing-batch-norm",
            f"sums of {fan_in:,} products, about {math.sqrt(fan_in):.0f} in size, go to the "
            f"quantizer in {site.name} as they are: its threshold is not learned, and few of "
            "them lie where a coarse derivative is not zero",
            "put a batch norm behind the layer, behind its pool if there is one; a packed file "
            "holds one threshold a channel with it and without",
            "larq/larq#698",
        )


def misplaced_batch_norm(graph: Graph) -> Iterator[Finding]:
    """A batch norm behind a sign, or two around a max-pool that a sign follows.

    Source: dabnn#69 for the order; deploy for the second.
    """
    norms = [node for node in graph.nodes("norm") if is_batch_norm(graph.module(node))]
    for node in norms:
        made_by = graph.module(graph.origin(node.all_input_nodes[0]))
        if has_bits(made_by):
            yield Finding(
                graph.name(node),
                "misplaced-batch-norm",
                "it stands behind a sign and turns bits into floats again: the next layer runs "
                "on floats, and the model cannot be packed",
                "put the batch norm before the sign",
                "JDAI-CV/dabnn#69",
            )
    signed = {graph.origin(site.fed_by) for site in graph.sites() if has_bits(site.quantizer)}
    for second in norms:
        if second not in signed:
            continue
        between = graph.back(second.all_input_nodes[0])
        if between[-1] in norms and any(graph.role(node) == "max" for node in between):
            yield Finding(
                graph.name(between[-1]),
                "misplaced-batch-norm",
                f"a max-pool stands between it and {graph.name(second)}: as soon as one of its "
                "weights falls below 0, the maximum becomes a minimum and the model cannot be "
                "packed",
                "put the pool before both, or remove one batch norm",
                "coarsegrad.deploy",
            )


def idle_bias(graph: Graph) -> Iterator[Finding]:
    """A trainable bias in a quantized layer with a batch norm directly behind.

    Source: Ioffe, Szegedy 2015, arXiv:1502.03167, section 3.2: the mean subtraction cancels it.
    """
    seen = set[nn.Module]()
    for node in graph.nodes("layer"):
        layer = graph.module(node)
        if layer is None or not is_quantized(layer) or layer in seen:
            continue
        seen.add(layer)
        bias = layer.bias
        goals = graph.goals(node, "max", "shape", "identity")
        if not isinstance(bias, Tensor) or not bias.requires_grad or not goals:
            continue
        if all(is_batch_norm(graph.module(goal)) for goal in goals):
            yield Finding(
                graph.name(node),
                "idle-bias",
                f"the batch norm {graph.name(goals[0])} subtracts its bias again: "
                f"{bias.numel()} parameters whose gradient is zero but for rounding",
                "build the layer with bias=False",
                "Ioffe, Szegedy 2015, arXiv:1502.03167, section 3.2",
            )


def float_layer(graph: Graph) -> Iterator[Finding]:
    """A layer between other layers, as the values flow, whose weights and inputs are floats.

    Source: larq#697 and compute-engine#631, files that are not smaller.
    """
    nodes = graph.nodes("layer")
    layers = [graph.module(node) for node in nodes]
    if not layers:
        return
    source = "larq/larq#697, larq/compute-engine#631"
    if not any(is_quantized(layer) for layer in layers):
        yield Finding(
            "all layers",
            "float-layer",
            "no layer has a quantizer: this is a float network",
            "convert it with coarsegrad.nn.convert(model), or build it of coarsegrad.nn layers",
            source,
        )
        return
    ends = graph.ends()
    for node, layer in zip(nodes, layers, strict=True):
        if layer is None or layer in ends or graph.bits_into(node) is not None:
            continue
        if getattr(layer, "weight_quantizer", None) is None:
            ends.add(layer)
            assert isinstance(layer.weight, Tensor)
            yield Finding(
                graph.name(node),
                "float-layer",
                f"{layer.weight.numel():,} weights of 4 bytes each, and a float kernel, in the "
                "middle of a quantized network",
                "give it an input_quantizer and a weight_quantizer, if it was not meant so",
                source,
            )


def activation_apart(graph: Graph) -> Iterator[Finding]:
    """An activation with a step by itself, ahead of a quantized layer without input_quantizer.

    Source: larq/compute-engine#745, quantized in training and floats when deployed.
    """
    for node in graph.nodes("layer"):
        layer = graph.module(node)
        if not is_quantized(layer) or getattr(layer, "input_quantizer", None) is not None:
            continue
        made = graph.origin(node.all_input_nodes[0])
        quantizer: object = graph.module(made)
        if isinstance(quantizer, Quantizer) and quantizer.split(torch.ones(2))[1] is not None:
            yield Finding(
                graph.name(node),
                "activation-apart",
                f"{graph.name(made)} multiplies its levels by a step before this layer sees them: "
                "the sums are of floats, and packed the layer runs on floats",
                f"give the layer that quantizer as its input_quantizer, and remove "
                f"{graph.name(made)}: the step then multiplies the output",
                "larq/compute-engine#745",
            )
