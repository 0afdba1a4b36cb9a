"""Where values go in a traced model: what feeds a layer, and what a result reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import fx, nn

from coarsegrad.nn.kinds import Kind, kinds_of
from coarsegrad.nn.trace import Traced

Reach = Literal["sign", "normed sign", "shortcut", "float layer", "output", "other"]


@dataclass(frozen=True)
class End:
    """Where a value ends up: what kind of end, its name for people, and its node."""

    reach: Reach
    name: str
    node: fx.Node


class Flow:
    """Questions about one traced model, with the kind of every node known."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.kinds: dict[fx.Node, Kind] = kinds_of(traced.graph, traced.root)

    def name(self, node: fx.Node) -> str:
        """Return a node's name for people: the module's, or the function's with its forward."""
        if node.op == "output":
            return "the model's output"
        if node.op == "call_module":
            return str(node.target)
        owner = self.traced.place(node).owner
        operation = getattr(node.target, "__name__", str(node.target))
        return f"{operation} in {owner}" if owner else operation

    def of_kind(self, kind: Kind) -> list[fx.Node]:
        """Return the nodes of one kind, in order of execution."""
        return [node for node in self.traced.graph.nodes if self.kinds[node] == kind]

    def first(self) -> set[fx.Node]:
        """Return the weighted nodes that the model's input reaches with none in between."""
        return self._weighted_from(
            (node for node in self.traced.graph.nodes if node.op == "placeholder"),
            lambda node: node.users,
        )

    def last(self) -> set[fx.Node]:
        """Return the weighted nodes that reach the model's output with none in between."""
        return self._weighted_from(self.of_kind("output"), lambda node: node.all_input_nodes)

    def _weighted_from(
        self, start: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]]
    ) -> set[fx.Node]:
        found: set[fx.Node] = set()
        seen: set[fx.Node] = set()
        waiting = list(start)
        while waiting:
            for node in step(waiting.pop()):
                if node in seen or self.kinds[node] == "sizes":
                    continue
                seen.add(node)
                if self.kinds[node] == "weighted":
                    found.add(node)
                else:
                    waiting.append(node)
        return found

    def ends_of_activation(self, node: fx.Node, signed: Callable[[fx.Node], bool]) -> list[End]:
        """Return where an activation's result goes: into signs, or to what keeps its values.

        Batch norms, pools, flattening, dropout and further activations are passed through.

        Args:
            node: the activation.
            signed: whether a node quantizes its input to few levels.
        """
        ends: list[End] = []
        waiting = [(user, False) for user in node.users]
        seen: set[tuple[fx.Node, bool]] = set()
        while waiting:
            user, normed = item = waiting.pop(0)
            if item in seen:
                continue
            seen.add(item)
            kind = self.kinds[user]
            if signed(user):
                ends.append(End("normed sign" if normed else "sign", self.name(user), user))
            elif kind in ("pass", "activation", "norm"):
                waiting += [(follower, normed or kind == "norm") for follower in user.users]
            elif kind != "sizes":
                ends.append(End(_REACH.get(kind, "other"), self.name(user), user))
        return ends

    def unnormed_ends(self, node: fx.Node, gone: set[fx.Node]) -> list[str]:
        """Return the names of what a layer's sums reach without a norm on the way.

        Args:
            node: the layer.
            gone: activations that will be removed, and are passed through.
        """
        ends: list[str] = []
        waiting, seen = list(node.users), set(node.users)
        while waiting:
            user = waiting.pop(0)
            kind = self.kinds[user]
            if kind in ("pass", "join") or user in gone:
                waiting += [u for u in user.users if u not in seen]
                seen |= set(user.users)
            elif kind not in ("norm", "sizes"):
                ends.append(self.name(user))
        return ends

    def norms_behind(self, node: fx.Node, gone: set[fx.Node]) -> list[str] | None:
        """Return the batch norms that subtract a constant added to each channel of ``node``.

        None where some of it escapes: to anything but pools, flattening and batch norms.
        """
        norms: list[str] = []
        waiting = list(node.users)
        while waiting:
            user = waiting.pop(0)
            module = self.traced.module(user)
            if isinstance(module, nn.modules.batchnorm._NormBase):
                norms.append(self.name(user))
            elif user in gone or _keeps_shifts(user, module):
                waiting += list(user.users)
            elif self.kinds[user] != "sizes":
                return None
        return norms or None

    def rank(self, node: fx.Node, known: dict[fx.Node, int]) -> int | None:
        """Return the number of dimensions of a node's result, or None if nothing tells it.

        Args:
            node: the node.
            known: ranks of an example batch; may be empty.
        """
        while node not in known:
            module = self.traced.module(node)
            settled = _settled_rank(node, module)
            if settled is not None:
                return settled
            kind = self.kinds[node]
            kept = kind in ("weighted", "norm", "activation", "join")
            if not kept and not (kind == "pass" and _keeps_rank(node, module)):
                return None
            node = node.all_input_nodes[0]
        return known[node]


_REACH: dict[Kind, Reach] = {"join": "shortcut", "weighted": "float layer", "output": "output"}


def _called(node: fx.Node) -> str:
    """Return the plain name of a function or method."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _keeps_shifts(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether adding a number to a channel adds it to the result's channel too."""
    if module is None:
        return _called(node) in ("flatten", "view", "reshape", "max_pool2d")
    if isinstance(module, nn.AvgPool2d):
        return module.padding in (0, (0, 0)) or not module.count_include_pad
    kept = (nn.Identity, nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
    return isinstance(module, kept)


def _settled_rank(node: fx.Node, module: nn.Module | None) -> int | None:
    """Return the rank that an operation alone settles, for batches."""
    if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)):
        return 4
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return 2
    if module is not None:
        return None
    if _called(node) == "flatten" and (node.args[1:] == (1,) or node.kwargs == {"start_dim": 1}):
        return 2
    if _called(node) in ("view", "reshape"):
        sizes = node.args[1:]
        return len(sizes[0]) if isinstance(sizes[0], (tuple, list)) else len(sizes)
    return None


_SAME_RANK = frozenset({
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "cat", "chunk",
    "clone", "contiguous", "dropout", "max_pool1d", "max_pool2d", "pad", "permute", "roll",
    "split", "transpose",
})  # fmt: skip


def _keeps_rank(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a pool, a dropout or a reshaping gives as many dimensions as it takes."""
    if module is not None:
        return not isinstance(module, (nn.Flatten, nn.Unflatten))
    if _called(node) == "getitem":
        return _called(node.all_input_nodes[0]) in ("chunk", "split")
    return _called(node) in _SAME_RANK
