"""Capture: a torch model as a chain of steps, by torch.fx with layers and quantizers as leaves.

torch.fx rather than torch.export: it keeps the user's modules and their names, so that folding
can evaluate torch's own batch norm and an error can name the layer; export lowers both away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn

from coarsegrad.deploy.steps import Step, known_kind, name_of, out_of_place, steps_of
from coarsegrad.errors import PackError
from coarsegrad.nn import LatentWeight, NormalizedBatchNorm
from coarsegrad.quantizers import Quantizer


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
        is_ours = isinstance(m, (LatentWeight, Quantizer, NormalizedBatchNorm))
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
            known_kind(traced.get_submodule(str(node.target)), name_of(node))
    out_of_place(traced)
    try:
        values = Chain((), traced).record(x)
    except Exception as error:
        raise PackError(
            f"pack needs an example batch that {type(model).__name__} accepts, got "
            f"{list(x.shape)}, on which it fails with: {error}"
        ) from error
    steps: list[Step] = []
    for step in (step for node in path for step in steps_of(node, traced, values)):
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
                f"pack needs a chain of layers, but the output of {name_of(node)} goes to "
                f"{len(users)} places ({', '.join(map(name_of, users)) or 'none'}); branches and "
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
