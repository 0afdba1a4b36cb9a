"""Steps: what each node of a captured graph is, as a torch module that does it.

Functions and methods become the modules that compute the same, so that all that follows knows
modules only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from coarsegrad.errors import PackError
from coarsegrad.nn import NormalizedBatchNorm
from coarsegrad.quantizers import Quantizer

Kind = Literal["layer", "norm", "relu", "pool", "average", "flatten", "sign", "pass"]

KNOWN = (
    "coarsegrad.nn and torch.nn Linear and Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, Flatten, Sign, QuantReLU and other quantizers, Identity, Dropout"
)
_RELUS = (F.relu, torch.relu, torch.relu_, "relu", "relu_")


@dataclass(frozen=True)
class Step:
    """One operation of the chain: what it is, where it is, and the module that does it."""

    kind: Kind
    name: str
    module: nn.Module
    node: fx.Node


def name_of(node: fx.Node) -> str:
    """Return the module's name, or that of the node which calls a function."""
    return str(node.target) if node.op == "call_module" else node.name


def out_of_place(traced: fx.GraphModule) -> None:
    """Make every ReLU of the traced graph leave its input as it is: values are compared later."""
    for node in traced.graph.nodes:
        if node.op == "call_module":
            if isinstance(traced.get_submodule(str(node.target)), nn.ReLU):
                traced.add_submodule(str(node.target), nn.ReLU())
        elif node.target in _RELUS:
            node.op, node.target = "call_function", torch.relu
            node.args, node.kwargs = (node.all_input_nodes[0],), {}


def known_kind(module: nn.Module, name: str) -> Kind:
    """Return what a module is.

    Raises:
        PackError: it has no packed form.
    """
    match module:
        case nn.Linear() | nn.Conv2d():
            return "layer"
        case nn.BatchNorm1d() | nn.BatchNorm2d() | NormalizedBatchNorm():
            if module.running_mean is None:
                raise PackError(f"{name} keeps no running statistics; set track_running_stats=True")
            return "norm"
        case nn.ReLU():
            return "relu"
        case nn.MaxPool2d():
            return "pool"
        case nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return "average"
        case nn.Flatten():
            if (module.start_dim, module.end_dim) == (1, -1):
                return "flatten"
            raise PackError(f"{name} flattens other dimensions than 1 to -1: {module}")
        case nn.Identity() | nn.Dropout() | nn.Dropout1d() | nn.Dropout2d():
            return "pass"
        case Quantizer():
            return "sign"
    raise PackError(f"{name} ({type(module).__name__}) has no packed form; known: {KNOWN}")


def steps_of(node: fx.Node, traced: fx.GraphModule, values: Mapping[fx.Node, Tensor]) -> list[Step]:
    """Return the steps of one node; ``values`` are all nodes' values for an example batch.

    Raises:
        PackError: the operation has no packed form; the message names it.
    """
    name = name_of(node)
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        kind = known_kind(module, name)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            module = _adaptive(module.output_size, values[node.all_input_nodes[0]], name)
        return [Step(kind, name, module, node)]
    if node.target in _RELUS:
        return [Step("relu", name, nn.ReLU(), node)]
    if node.target in (torch.flatten, "flatten", "view", "reshape", torch.reshape):
        return [Step("flatten", name, _flatten(node, values, name), node)]
    if node.target is F.dropout:
        _check_dropout(node, name)
        return [Step("pass", name, nn.Identity(), node)]
    if node.target in (torch.mean, "mean"):
        return _mean(node, values, name)
    pool = _pool(node, values, name)
    if pool is not None:
        return [Step(known_kind(pool, name), name, pool, node)]
    operation = getattr(node.target, "__name__", node.target)
    raise PackError(f"{name} calls {operation}, which has no packed form; known: {KNOWN}")


def _check_dropout(node: fx.Node, name: str) -> None:
    if node.kwargs.get("training", True) or True in node.args[2:3]:
        raise PackError(
            f"{name} calls F.dropout with training=True, which drops also in evaluation; "
            "call it with training=self.training"
        )


def _flatten(node: fx.Node, values: Mapping[fx.Node, Tensor], name: str) -> nn.Module:
    before = values[node.all_input_nodes[0]]
    after = values[node]
    if after.shape != before.flatten(1).shape:
        raise PackError(
            f"{name} reshapes {list(before.shape)} to {list(after.shape)}; only flattening all "
            "but the batch dimension has a packed form"
        )
    return nn.Flatten()


def _arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """Return a call's arguments behind the tensor, by name."""
    given = dict(zip(names, node.args[1:], strict=False))
    return given | {key: value for key, value in node.kwargs.items() if key in names}


def _pool(node: fx.Node, values: Mapping[fx.Node, Tensor], name: str) -> nn.Module | None:
    """Return the module of a call of a pool, or None for another function."""
    kind: type[nn.Module]
    names: tuple[str, ...]
    if node.target in (F.max_pool2d, torch.max_pool2d):
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        kind = nn.MaxPool2d
    elif node.target is F.avg_pool2d:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                 "divisor_override")  # fmt: skip
        kind = nn.AvgPool2d
    elif node.target is F.adaptive_avg_pool2d:
        size = _arguments(node, "output_size")["output_size"]
        return _adaptive(size, values[node.all_input_nodes[0]], name)
    else:
        return None
    arguments = _arguments(node, *names)
    arguments["stride"] = arguments.get("stride") or None
    if "kernel_size" not in arguments:
        raise PackError(f"{name} calls {kind.__name__} without a kernel_size")
    return kind(**arguments)


def _adaptive(size: Any, before: Tensor, name: str) -> nn.AvgPool2d:
    """Return the average pool whose windows share the input out evenly."""
    wanted = size if isinstance(size, (tuple, list)) else (size, size)
    plane = tuple(before.shape[2:])
    out = tuple(n if w is None else int(w) for n, w in zip(plane, wanted, strict=False))
    if len(plane) != 2 or any(w < 1 or n % w for n, w in zip(plane, out, strict=True)):
        raise PackError(
            f"{name} averages {list(plane)} cells to {list(out)}; packed windows are all of one "
            "size: choose sizes that divide, such as 1"
        )
    return nn.AvgPool2d((plane[0] // out[0], plane[1] // out[1]))


def _mean(node: fx.Node, values: Mapping[fx.Node, Tensor], name: str) -> list[Step]:
    """Return the steps of a mean over a plane: a global average, and a flattening."""
    before, given = values[node.all_input_nodes[0]], _arguments(node, "dim", "keepdim", "dtype")
    dim = given.get("dim")
    dims = {d % before.dim() for d in dim} if isinstance(dim, (tuple, list)) else {dim}
    if before.dim() != 4 or dims != {2, 3} or given.get("dtype") is not None:
        raise PackError(
            f"{name} takes the mean of {list(before.shape)} over dim={dim!r}; only the mean over "
            "the plane, dim=(2, 3) of four dimensions, has a packed form"
        )
    plane = int(before.shape[2]), int(before.shape[3])
    steps = [Step("average", name, nn.AvgPool2d(plane), node)]
    return steps if given.get("keepdim") else [*steps, Step("flatten", name, nn.Flatten(), node)]
