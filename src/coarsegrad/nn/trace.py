"""Tracing for ``convert``: one flat graph in which each operation knows the forward it is in.

torch.fx traces a structural copy that shares the parameters, in training and in evaluation mode.
The user's model is never run, switched or seen by Python side effects of its forward. Where the
graphs differ by a training flag, the flag is read from the module again (``self.training``); where
they differ otherwise, the model is refused, unless the difference lies inside a module without
weighted layers, which then counts as one opaque operation.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.kinds import input_of, is_inplace, is_weighted, kinds_of
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.quantizers import Quantizer


@dataclass(frozen=True)
class Place:
    """Where an operation is written: the forward of ``owner``, in run ``frame``, as number n."""

    owner: str
    frame: int
    number: int


@dataclass
class Frame:
    """One run of one module's forward: arguments that are no tensors, operations in order."""

    owner: str
    constants: dict[str, object]
    operations: list[object] = field(default_factory=list)


@dataclass(frozen=True)
class Traced:
    """A flat graph over ``root``, and the runs of forwards that made it."""

    root: nn.Module
    graph: fx.Graph
    frames: list[Frame]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, or None."""
        return self.root.get_submodule(str(node.target)) if node.op == "call_module" else None

    def place(self, node: fx.Node) -> Place:
        """Return where an operation is written."""
        place = node.meta["place"]
        assert isinstance(place, Place)
        return place


class _TraceError(Exception):
    """Tracing failed, or differs between the modes, inside the module ``owner``."""

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(reason)
        self.owner = owner


class _Tracer(fx.Tracer):
    def __init__(self, leaf: Callable[[nn.Module], bool], constants: dict[str, object]) -> None:
        super().__init__()
        self.leaf = leaf
        self.frames = [Frame("", constants)]
        self.open = [0]
        self.failed: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (LatentWeight, Quantizer)) or self.leaf(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        fn, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        names = list(inspect.signature(root_fn).parameters)
        constants = self.frames[0].constants
        # Placeholders stay, so that the signature does; the forward sees the constant.
        return fn, [constants.get(n, arg) for n, arg in zip(names, args, strict=True)]

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, target, *args, **kwargs)
        if kind.startswith("call_"):
            frame = self.frames[self.open[-1]]
            node.meta["place"] = Place(frame.owner, self.open[-1], len(frame.operations))
            frame.operations.append(
                self.root.get_submodule(target) if kind == "call_module" else target
            )
        return node

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            return super().call_module(m, forward, args, kwargs)
        self.frames[self.open[-1]].operations.append(m)
        self.frames.append(Frame(path, _constants(m, args, kwargs)))
        self.open.append(len(self.frames) - 1)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = path if self.failed is None else self.failed
            raise
        self.open.pop()
        return result


def _constants(module: nn.Module, args: Any, kwargs: Any) -> dict[str, object]:
    """Return the arguments of a call, defaults included, in which there is no traced tensor."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if not _holds_proxy(value)}


def _holds_proxy(value: object) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        return any(map(_holds_proxy, value))
    return isinstance(value, fx.Proxy)


def skeleton(model: nn.Module) -> nn.Module:
    """Return a copy of a model's structure that shares its parameters and has no hooks.

    Buffers are copied, so that running it leaves running statistics alone.

    Raises:
        ConvertError: the model cannot be copied.
    """
    shared: dict[int, object] = {id(p): p for p in model.parameters()}
    for module in model.modules():
        # Old-style weight norm keeps a computed, uncopyable tensor beside its parameters.
        shared |= {id(v): v for v in vars(module).values() if isinstance(v, Tensor)}
    try:
        twin = copy.deepcopy(model, shared)
    except Exception as error:
        raise ConvertError(
            f"convert needs a model that copy.deepcopy can copy, got {type(model).__name__}, which "
            f"fails with: {error}; remove what it holds besides modules and tensors, convert, and "
            "put it back"
        ) from error
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


def trace(model: nn.Module) -> Traced:
    """Return the flat graph of a model; layers, torch's modules and quantizers are its leaves.

    Parameters of the model's forward that have defaults keep them.

    Raises:
        ConvertError: torch.fx cannot trace it; the message names the module and the reason.
    """
    root = skeleton(model)
    signature = inspect.signature(type(model).forward).parameters.values()
    constants = {p.name: p.default for p in signature if p.default is not p.empty}
    opaque: set[nn.Module] = set()
    while True:
        try:
            graph, frames = _both_modes(root, opaque.__contains__, constants)
            return Traced(root, graph, frames)
        except _TraceError as error:
            module = root.get_submodule(error.owner)
            if error.owner and not is_weighted(module) and module not in opaque:
                opaque.add(module)
                continue
            where = f"{error.owner} ({type(module).__name__})" if error.owner else "its own forward"
            raise ConvertError(
                f"convert needs a model that torch.fx can trace, got {type(model).__name__}, in "
                f"which {where} fails with: {error}; move Python that depends on values out of "
                "that forward, or convert the submodules that can be traced, one by one"
            ) from error


def trace_forward(module: nn.Module, frame: Frame) -> tuple[fx.Graph, list[object]]:
    """Return the graph of one forward with every submodule as a leaf, and its operations.

    Raises:
        ConvertError: it cannot be traced apart from its parents.
    """
    try:
        graph, frames = _both_modes(module, lambda _: True, frame.constants)
    except _TraceError as error:
        raise ConvertError(
            f"convert needs to change the forward of {frame.owner or 'the model'} "
            f"({type(module).__name__}), which cannot be traced by itself: {error}; call a module "
            "such as nn.ReLU or nn.BatchNorm2d there, so that only modules have to change"
        ) from error
    return graph, frames[0].operations


def _both_modes(
    root: nn.Module, leaf: Callable[[nn.Module], bool], constants: dict[str, object]
) -> tuple[fx.Graph, list[Frame]]:
    graphs: list[fx.Graph] = []
    for training in (False, True):
        root.train(training)
        tracer = _Tracer(leaf, constants)
        try:
            graphs.append(tracer.trace(root))
        except Exception as error:
            raise _TraceError(tracer.failed or "", str(error)) from error
    root.eval()
    evaluation, train = (list(graph.nodes) for graph in graphs)
    for index, (one, other) in enumerate(zip(evaluation, train, strict=False)):
        if (one.op, one.target) != (other.op, other.target) and not _same_made(root, one, other):
            raise _differs(other)
        one.args, one.kwargs = _merge((one.args, one.kwargs), (other.args, other.kwargs), one)
        one.meta["index"] = other.meta["index"] = index
    if len(evaluation) != len(train):
        raise _differs(train[-1])
    _name_overwritten(graphs[0], root)
    return graphs[0], tracer.frames


def _same_made(root: nn.Module, one: fx.Node, other: fx.Node) -> bool:
    """Whether two nodes read equal tensors that the forward made, under names of torch.fx's."""
    made = [getattr(root, str(n.target), None) for n in (one, other) if n.op == "get_attr"]
    tensors = [value for value in made if isinstance(value, Tensor)]
    return len(tensors) == 2 and torch.equal(*tensors)


def _differs(node: fx.Node) -> _TraceError:
    owner = node.meta["place"].owner if "place" in node.meta else ""
    return _TraceError(owner, f"at {node.name}, training and evaluation compute different things")


def _merge(evaluation: Any, train: Any, node: fx.Node) -> Any:
    """Return the arguments of a node, with ``self.training`` where the modes have False, True."""
    if isinstance(evaluation, fx.Node) and isinstance(train, fx.Node):
        same = evaluation.meta["index"] == train.meta["index"]
    elif type(evaluation) is not type(train):
        same = False
    elif isinstance(evaluation, (tuple, list)):
        if len(evaluation) == len(train):
            pairs = zip(evaluation, train, strict=True)
            return type(evaluation)(_merge(a, b, node) for a, b in pairs)
        same = False
    elif isinstance(evaluation, dict):
        if evaluation.keys() == train.keys():
            return {key: _merge(evaluation[key], train[key], node) for key in evaluation}
        same = False
    elif isinstance(evaluation, slice):
        one = (evaluation.start, evaluation.stop, evaluation.step)
        return slice(*_merge(one, (train.start, train.stop, train.step), node))
    else:
        same = bool(evaluation == train)
        if evaluation is False and train is True:
            owner = node.meta["place"].owner
            with node.graph.inserting_before(node):
                return node.graph.create_node("get_attr", f"{owner}.training".lstrip("."))
    if not same:
        raise _differs(node)
    return evaluation


def _name_overwritten(graph: fx.Graph, root: nn.Module) -> None:
    """Let what reads a tensor after ``relu_(tensor)`` read the result, which it is."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node, kind in kinds_of(graph, root).items():
        if kind == "activation" and is_inplace(node, root):
            source = input_of(node)
            for user in [u for u in source.users if order[u] > order[node]]:
                user.replace_input_with(source, node)
