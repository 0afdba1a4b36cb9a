"""Capture: a torch model as a chain of steps, by torch.fx with layers and quantizers as leaves.

torch.fx rather than torch.export: it keeps the user's modules and their names, so that folding
can evaluate torch's own batch norm and an error can name the layer; export lowers both away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from coarsegrad.errors import PackError
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer

Kind = Literal["layer", "norm", "pool", "flatten", "sign", "pass"]


@dataclass(frozen=True)
class Step:
    """One operation of the chain: what it is, where it is, and the module that does it."""

    kind: Kind
    name: str
    module: nn.Module
    node: fx.Node


@dataclass(frozen=True)
class Chain:
    """A captured model: its steps in order, and the traced module they belong to."""

    steps: tuple[Step, ...]
    traced: fx.GraphModule

    def record(self, x: Tensor) -> dict[fx.Node, Tensor]:
        """Return the value of every node for the batch ``x``."""
        recorder = _Recorder(self.traced)
        recorder.run(x)
        return recorder.values


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_ours = isinstance(m, (LatentWeight, Quantizer))
        return is_ours or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = result = super().run_node(n)
        return result


def trace(model: nn.Module) -> fx.GraphModule:
    """Return ``model`` as torch.fx sees it, whatever it branches; layers and quantizers are leaves.

    Raises:
        PackError: the model cannot be traced; the message holds torch's reason.

    >>> from coarsegrad.quantizers import Sign
    >>> [node.op for node in trace(nn.Sequential(Sign())).graph.nodes]
    ['placeholder', 'call_module', 'output']
    """
    try:
        return fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise PackError(
            f"pack needs a model that torch.fx can trace, got {type(model).__name__}, which "
            f"fails with: {error}; move data-dependent Python out of its forward"
        ) from error


def capture(model: nn.Module, x: Tensor) -> Chain:
    """Return the chain of steps that ``model`` performs on the batch ``x``.

    Raises:
        PackError: the model cannot be traced, branches, or holds an operation without a packed
            form; the message names it.
    """
    traced = trace(model)
    path = _chain(traced.graph)
    for node in path:
        if node.op == "call_module":
            _kind(traced.get_submodule(str(node.target)), _name(node))
    try:
        values = Chain((), traced).record(x)
    except Exception as error:
        raise PackError(
            f"pack needs an example batch that {type(model).__name__} accepts, got "
            f"{list(x.shape)}, on which it fails with: {error}"
        ) from error
    steps: list[Step] = []
    for node in path:
        step = _step(node, traced, values)
        uses = sum(earlier.module is step.module for earlier in steps)
        # A module used again gets a name of its own: its thresholds are others.
        steps.append(replace(step, name=f"{step.name}@{uses + 1}") if uses else step)
    return Chain(tuple(steps), traced)


def _chain(graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes from input to output, refusing anything but one path."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise PackError(f"pack needs a model with one input, got {[str(n) for n in inputs]}")
    path: list[fx.Node] = []
    node = inputs[0]
    while True:
        users = [user for user in node.users if not _only_reads_sizes(user)]
        if len(users) != 1:
            raise PackError(
                f"pack needs a chain of layers, but the output of {_name(node)} goes to "
                f"{len(users)} places ({', '.join(map(_name, users)) or 'none'}); branches and "
                "shortcuts have no packed form in this version"
            )
        node = users[0]
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise PackError("pack needs a model that returns one tensor")
            return path
        path.append(node)


def _only_reads_sizes(node: fx.Node) -> bool:
    """Whether a node is ``x.size(0)``, ``x.shape`` or an item of it: part of a reshape."""
    if node.op == "call_method" and node.target == "size":
        return True
    return node.op == "call_function" and node.target is getattr and node.args[1:] == ("shape",)


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _step(node: fx.Node, traced: fx.GraphModule, values: dict[fx.Node, Tensor]) -> Step:
    name = _name(node)
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        return Step(_kind(module, name), name, module, node)
    if node.target in (torch.flatten, "flatten", "view", "reshape", torch.reshape):
        return Step("flatten", name, _flatten(node, values, name), node)
    if node.target is F.dropout:
        if node.kwargs.get("training", True) or True in node.args[2:3]:
            raise PackError(
                f"{name} calls F.dropout with training=True, which drops also in evaluation; "
                "call it with training=self.training"
            )
        return Step("pass", name, nn.Identity(), node)
    if node.target in (F.max_pool2d, torch.max_pool2d):
        return Step("pool", name, _pool(node), node)
    operation = getattr(node.target, "__name__", node.target)
    raise PackError(
        f"{name} calls {operation}, which has no packed form; known: coarsegrad.nn and torch.nn "
        "Linear and Conv2d, BatchNorm, MaxPool2d, Flatten, Sign, Identity, Dropout"
    )


def _kind(module: nn.Module, name: str) -> Kind:
    match module:
        case nn.Linear() | nn.Conv2d():
            return "layer"
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if module.running_mean is None:
                raise PackError(f"{name} keeps no running statistics; set track_running_stats=True")
            return "norm"
        case nn.MaxPool2d():
            return "pool"
        case nn.Flatten():
            if (module.start_dim, module.end_dim) == (1, -1):
                return "flatten"
            raise PackError(f"{name} flattens other dimensions than 1 to -1: {module}")
        case nn.Identity() | nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
            return "pass"
        case Quantizer():
            return "sign"
    advice = (
        "; a ReLU before a sign leaves only +1: remove it" if isinstance(module, nn.ReLU) else ""
    )
    raise PackError(
        f"{name} ({type(module).__name__}) has no packed form; known: coarsegrad.nn and torch.nn "
        f"Linear and Conv2d, BatchNorm, MaxPool2d, Flatten, Sign, Identity, Dropout{advice}"
    )


def _flatten(node: fx.Node, values: dict[fx.Node, Tensor], name: str) -> nn.Module:
    before = values[node.all_input_nodes[0]]
    after = values[node]
    if after.shape != before.flatten(1).shape:
        raise PackError(
            f"{name} reshapes {list(before.shape)} to {list(after.shape)}; only flattening all "
            "but the batch dimension has a packed form"
        )
    return nn.Flatten()


def _pool(node: fx.Node) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    arguments = dict(zip(names, node.args[1:], strict=False)) | {
        key: value for key, value in node.kwargs.items() if key in names
    }
    arguments["stride"] = arguments.get("stride") or None
    if "kernel_size" not in arguments:
        raise PackError(f"{node.name} calls max_pool2d without a kernel_size")
    return nn.MaxPool2d(**arguments)  # type: ignore[arg-type]
