"""A traced model as a graph of roles: what a node does to the values that pass through it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.conv import _ConvNd

from coarsegrad.deploy import trace
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer

Role = Literal[
    "input", "output", "layer", "norm", "quantizer", "max", "mean", "shape", "identity",
    "dropout", "rectifier", "softmax", "size", "other",
]  # fmt: skip

#: What leaves every value as it is, picks one of several, or moves it.
NEUTRAL: frozenset[Role] = frozenset({"max", "shape", "identity", "dropout"})

_MODULES: list[tuple[tuple[type[nn.Module], ...], Role]] = [
    ((nn.Linear, _ConvNd), "layer"),
    ((_NormBase, nn.GroupNorm, nn.LayerNorm), "norm"),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), "max"),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), "mean"),
    ((nn.Flatten, nn.Unflatten), "shape"),
    ((nn.Identity,), "identity"),
    ((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), "dropout"),
    ((nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus), "rectifier"),
    ((nn.Softmax, nn.LogSoftmax), "softmax"),
]

# Methods of a tensor are strings to torch.fx.
_CALLS: list[tuple[tuple[Any, ...], Role]] = [
    ((F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d, F.adaptive_max_pool1d,
      F.adaptive_max_pool2d, "amax"), "max"),
    ((F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d,
      torch.mean, "mean"), "mean"),
    ((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute,
      torch.transpose, "flatten", "view", "reshape", "squeeze", "unsqueeze", "permute",
      "transpose", "contiguous"), "shape"),
    ((F.dropout, F.dropout1d, F.dropout2d), "dropout"),
    ((F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, "relu", "relu_", F.sigmoid,
      torch.sigmoid, "sigmoid", F.hardsigmoid, F.softplus), "rectifier"),
    ((F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax"),
     "softmax"),
    (("size", "dim"), "size"),
]  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """A traced model, and walks along it."""

    traced: fx.GraphModule

    def nodes(self, *roles: Role) -> list[fx.Node]:
        """Return the nodes of these roles in order of execution."""
        return [node for node in self.traced.graph.nodes if self.role(node) in roles]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls."""
        return self.traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    def name(self, node: fx.Node) -> str:
        """Return the name of the node's module, or of the operation."""
        return str(node.target) if node.op == "call_module" else node.name

    def role(self, node: fx.Node) -> Role:
        """Return what the node does."""
        if node.op == "placeholder":
            return "input"
        if node.op == "output":
            return "output"
        module = self.module(node)
        if module is not None:
            if isinstance(module, Quantizer):
                return "quantizer"
            return next((role for kinds, role in _MODULES if isinstance(module, kinds)), "other")
        if node.target is getattr and node.args[1:] == ("shape",):
            return "size"
        return next((role for known, role in _CALLS if node.target in known), "other")

    def back(self, node: fx.Node, *also: Role) -> list[fx.Node]:
        """Return the nodes from ``node`` back to the one that made its value, which is the last.

        The walk passes through neutral nodes and those of the roles ``also``.
        """
        path = [node]
        while self.role(path[-1]) in NEUTRAL.union(also) and path[-1].all_input_nodes:
            path.append(path[-1].all_input_nodes[0])
        return path

    def origin(self, node: fx.Node, *also: Role) -> fx.Node:
        """Return the node that made the value of ``node``, passing through as ``back`` does."""
        return self.back(node, *also)[-1]

    def goals(self, node: fx.Node, *through: Role) -> list[fx.Node]:
        """Return the first nodes of other roles that the value of ``node`` goes to."""
        found: list[fx.Node] = []
        for user in node.users:
            role = self.role(user)
            if role in through:
                found += self.goals(user, *through)
            elif role != "size":
                found.append(user)
        return found

    def ends(self) -> set[nn.Module | None]:
        """Return the layers with no other layer before them, or with none behind: all heads."""
        nodes = [node for node in self.traced.graph.nodes if self.role(node) != "size"]
        raw: set[fx.Node] = set()
        for node in nodes:
            sources = [source for source in node.all_input_nodes if self.role(source) != "layer"]
            if node.op == "placeholder" or raw.intersection(sources):
                raw.add(node)
        final: set[fx.Node] = set()
        for node in reversed(nodes):
            users = [user for user in node.users if self.role(user) != "layer"]
            if node.op == "output" or final.intersection(users):
                final.add(node)
        return {self.module(node) for node in self.nodes("layer") if node in raw | final}

    def sites(self) -> list[Site]:
        """Return every place where a quantizer is applied to a value of the graph."""
        found: list[Site] = []
        for node in self.nodes("layer", "quantizer"):
            module = self.module(node)
            own = module if isinstance(module, Quantizer) else None
            quantizer = getattr(module, "input_quantizer", None) if own is None else own
            if quantizer is not None and node.all_input_nodes:
                found.append(Site(self.name(node), quantizer, node.all_input_nodes[0]))
        return found

    def results(self) -> list[fx.Node]:
        """Return the nodes whose values the model returns."""
        return [made for node in self.nodes("output") for made in node.all_input_nodes]

    def bits_into(self, node: fx.Node) -> int | None:
        """Return the bits of the values a layer multiplies, or None for floats."""
        quantizer = getattr(self.module(node), "input_quantizer", None)
        if quantizer is None and node.all_input_nodes:
            source = self.module(self.origin(node.all_input_nodes[0]))
            quantizer = source if isinstance(source, Quantizer) else None
        return None if quantizer is None else int(quantizer.bits)

    def input_bits(self) -> dict[str, int | None]:
        """Return ``bits_into`` of each call of a layer, named as ``watch.names`` names it."""
        counts = Counter[str]()
        found: dict[str, int | None] = {}
        for node in self.nodes("layer"):
            name = self.name(node)
            counts[name] += 1
            key = name if counts[name] == 1 else f"{name}@{counts[name]}"
            found[key] = self.bits_into(node)
        return found


@dataclass(frozen=True)
class Site:
    """A quantizer, the layer or module it belongs to, and the node whose value it takes."""

    name: str
    quantizer: Quantizer
    fed_by: fx.Node


def graph_of(model: nn.Module) -> Graph:
    """Trace ``model``.

    Raises:
        PackError: torch.fx cannot trace it.
    """
    return Graph(trace(model))


def is_batch_norm(module: nn.Module | None) -> bool:
    """Whether a module subtracts each channel's mean."""
    return isinstance(module, _BatchNorm)


def has_bits(quantizer: object) -> bool:
    """Whether a quantizer's levels are -1 and +1."""
    return isinstance(quantizer, Quantizer) and tuple(quantizer.levels) == (-1.0, 1.0)


def has_bit_weights(module: nn.Module | None) -> bool:
    """Whether a layer's weights are -1 and +1."""
    return isinstance(module, LatentWeight) and has_bits(module.weight_quantizer)


def is_quantized(module: nn.Module | None) -> bool:
    """Whether a layer has a quantizer for its weights or its input."""
    return isinstance(module, LatentWeight) and not (
        module.weight_quantizer is None and module.input_quantizer is None
    )
