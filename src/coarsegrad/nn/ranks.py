"""How many dimensions the results in a traced model have: from an example batch, or by rule."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.flow import Flow
from coarsegrad.nn.kinds import called
from coarsegrad.nn.trace import Traced

# A number; as many as the model's input, which the graph does not tell; or unknown.
Rank = int | Literal["input"] | None

_IMAGES = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_SAME_RANK = frozenset({
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "cat", "chunk",
    "clone", "contiguous", "dropout", "interpolate", "max_pool1d", "max_pool2d", "pad", "permute",
    "roll", "split", "swapaxes", "transpose",
})  # fmt: skip


def ranks(flow: Flow, x: Tensor | tuple[Tensor, ...] | None) -> dict[fx.Node, Rank]:
    """Return the number of dimensions of each node's result.

    Args:
        flow: the traced model.
        x: an example batch, or a tuple of them, or None to go by what the operations tell.

    Raises:
        ConvertError: the model does not accept the batch.
    """
    if x is not None:
        return {**_measured(flow.traced, x if isinstance(x, tuple) else (x,))}
    found: dict[fx.Node, Rank] = {}
    for node in flow.traced.graph.nodes:
        found[node] = _rank(flow, node, found)
    return found


def _rank(flow: Flow, node: fx.Node, known: dict[fx.Node, Rank]) -> Rank:
    if node.op == "placeholder":
        return "input"
    module = flow.traced.module(node)
    if isinstance(module, _IMAGES):
        return 4
    settled = _reshaped(node, module)
    if settled is not None:
        return settled
    kind = flow.kinds[node]
    kept = kind in ("weighted", "norm", "activation", "join")
    if not kept and not (kind == "pass" and _keeps_rank(node, module)):
        return None
    sources = [known[source] for source in node.all_input_nodes]
    numbers = [source for source in sources if isinstance(source, int)]
    # What is added or concatenated has the rank of whichever operand is known.
    return max(numbers) if numbers else "input" if "input" in sources else None


def _reshaped(node: fx.Node, module: nn.Module | None) -> int | None:
    """Return the rank that flattening or reshaping settles."""
    if isinstance(module, nn.Flatten):
        return module.start_dim + 1 if module.end_dim == -1 and module.start_dim > 0 else None
    if module is not None:
        return None
    if called(node) == "flatten":
        start, *end = (*node.args[1:], *node.kwargs.values()) or (0,)
        return start + 1 if isinstance(start, int) and start > 0 and end in ([], [-1]) else None
    if called(node) in ("view", "reshape"):
        sizes = node.args[1:]
        return len(sizes[0]) if isinstance(sizes[0], (tuple, list)) else len(sizes)
    return None


def _keeps_rank(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a pool, a dropout or a reordering gives as many dimensions as it takes."""
    if module is not None:
        return not isinstance(module, (nn.Flatten, nn.Unflatten))
    if called(node) == "getitem":
        return called(node.all_input_nodes[0]) in ("chunk", "split")
    return called(node) in _SAME_RANK


def _measured(traced: Traced, batches: tuple[Tensor, ...]) -> dict[fx.Node, int]:
    recorder = _Recorder(traced.root.eval(), graph=traced.graph)
    try:
        with torch.no_grad():
            recorder.run(*batches)
    except Exception as error:
        raise ConvertError(
            f"convert needs x to be a batch that the model accepts, got "
            f"{[list(batch.shape) for batch in batches]}, on which it fails with: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return recorder.ranks


class _Recorder(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.ranks: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.ranks[n] = result.dim()
        return result
