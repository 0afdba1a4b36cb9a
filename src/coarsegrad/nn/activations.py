"""Which activations a conversion removes: those that only stand before signs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from coarsegrad.nn.draft import Draft
from coarsegrad.nn.flow import End
from coarsegrad.nn.kinds import called, is_one_signed
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.nn.plan import Change
from coarsegrad.quantizers import Quantizer

# Functions of values that are not below zero which keep them so; and functions that make them so.
_KEEP_SIGNS = ("add", "add_", "iadd", "mul", "mul_", "imul", "multiply", "div", "div_", "truediv")
_POSITIVE = ("softmax", "exp", "abs")


def few_levels(quantizer: Quantizer | None) -> bool:
    """Whether a quantizer is a nonlinearity of its own, so that none is needed before it.

    Beyond three levels (sign, Heaviside, ternary) it is nearly linear, and a ReLU means something.
    """
    return quantizer is not None and len(quantizer.levels) <= 3


def remove_activations(
    draft: Draft, input_of: dict[fx.Node, Quantizer | None]
) -> tuple[set[fx.Node], dict[fx.Node, str]]:
    """Note the activations that go, and those that stay, with the reason.

    Args:
        draft: the conversion in the making.
        input_of: the input quantizer of each layer that will be converted.

    Returns:
        The activations that go; and the quantized inputs that would never see a -1, since what
        stays before them is never below zero, with the name of what feeds each.
    """

    def quantizer(node: fx.Node) -> Quantizer | None:
        if node in input_of:
            return input_of[node]
        module = draft.traced.module(node)
        if isinstance(module, LatentWeight):
            return module.input_quantizer
        return module if isinstance(module, Quantizer) else None

    nodes = draft.flow.of_kind("activation")
    ends = {
        node: draft.flow.ends_of_activation(node, lambda n: few_levels(quantizer(n)))
        for node in nodes
    }
    gone = _gone(draft, nodes, ends)
    never_negative = _never_negative(draft, gone)
    starved = {
        node: draft.flow.name(node.all_input_nodes[0])
        for node in draft.traced.graph.nodes
        if node.all_input_nodes and node.all_input_nodes[0] in never_negative
        if (found := quantizer(node)) is not None and few_levels(found) and min(found.levels) < 0
    }
    for uses in _by_object(draft, nodes):
        _note(draft, uses, gone, starved, ends)
    return gone, starved


def _gone(draft: Draft, nodes: list[fx.Node], ends: dict[fx.Node, list[End]]) -> set[fx.Node]:
    """Return the activations that feed quantized inputs only, in all runs of their line."""
    lines: dict[tuple[str, int], list[fx.Node]] = {}
    for node in nodes:
        place = draft.traced.place(node)
        lines.setdefault((place.owner, place.number), []).append(node)
    return {
        node
        for line in lines.values()
        for node in line
        if all(ends[run] and all(_is_quantized(end) for end in ends[run]) for run in line)
    }


def _never_negative(draft: Draft, gone: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose values are never, or hardly ever, below zero once ``gone`` is gone.

    A sum with one such operand leans to that side, and its average over an image lies there.
    """
    found: set[fx.Node] = set()
    leaning: set[fx.Node] = set()
    for node in draft.traced.graph.nodes:
        kind = draft.flow.kinds[node]
        sources = [s for s in node.all_input_nodes if draft.flow.kinds[s] != "sizes"]
        carried = bool(sources) and all(source in found for source in sources)
        leans = any(source in found or source in leaning for source in sources)
        if kind == "activation" and node not in gone:
            never = carried or is_one_signed(node, draft.traced.root)
        elif kind == "join":
            numbers = [a for a in node.args if isinstance(a, (int, float))]
            never = carried and called(node) in _KEEP_SIGNS and min(numbers, default=0) >= 0
        else:
            never = (carried and kind in ("pass", "activation")) or called(node) in _POSITIVE
        if never or (leans and _averages(node, draft.traced.module(node))):
            found.add(node)
        elif leans and (kind in ("pass", "activation") or called(node) in ("add", "add_", "iadd")):
            leaning.add(node)
    return found


def _averages(node: fx.Node, module: nn.Module | None) -> bool:
    averages = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
    if module is not None:
        return isinstance(module, averages)
    return called(node) in ("mean", "avg_pool2d", "adaptive_avg_pool2d")


def _is_quantized(end: End) -> bool:
    return end.reach in ("sign", "normed sign")


def _by_object(draft: Draft, nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """Group the uses of one module, and the runs of one line of code."""
    groups: dict[object, list[fx.Node]] = {}
    for node in nodes:
        place = draft.traced.place(node)
        module = draft.traced.module(node)
        key: object = (place.owner, place.number) if module is None else module
        groups.setdefault(key, []).append(node)
    return list(groups.values())


def _note(
    draft: Draft,
    uses: list[fx.Node],
    gone: set[fx.Node],
    starved: dict[fx.Node, str],
    ends: dict[fx.Node, list[End]],
) -> None:
    """Note one activation: exchanged for Identity, or taken out of the forwards that call it."""
    below = is_one_signed(uses[0], draft.traced.root)
    module = draft.original(uses[0]) if uses[0].op == "call_module" else None
    if module is not None and all(use in gone for use in uses):
        draft.exchange(str(uses[0].target), module, nn.Identity().train(module.training))
        every = [end for use in uses for end in ends[use]]
        what = type(module).__name__
        why = _reason(every, True, below, starved)
        draft.changes.append(Change(str(uses[0].target), what, "Identity", why))
        return
    written: dict[tuple[str, int], list[fx.Node]] = {}
    for use in uses:
        place = draft.traced.place(use)
        written.setdefault((place.owner, place.number), []).append(use)
    for count, group in enumerate(written.values(), start=1):
        name, what = _title(draft, group[0], module, count if len(written) > 1 else 0)
        why = _reason([end for use in group for end in ends[use]], group[0] in gone, below, starved)
        if group[0] in gone:
            draft.remove(group[0])
            draft.changes.append(Change(name, what, "removed", why))
        else:
            draft.kept.append(Change(name, what, what, why))


def _title(draft: Draft, node: fx.Node, module: nn.Module | None, count: int) -> tuple[str, str]:
    place = draft.traced.place(node)
    owner = place.owner or type(draft.model).__name__
    if module is not None:
        use = f", use {count}" if count else ""
        return str(node.target), f"{type(module).__name__}{use}"
    return f"{owner}.forward", getattr(node.target, "__name__", str(node.target))


def _reason(ends: list[End], gone: bool, one_signed: bool, starved: dict[fx.Node, str]) -> str:
    signs = _names(end for end in ends if end.reach == "sign")
    normed = _names(end for end in ends if end.reach == "normed sign")
    others = _names(end for end in ends if not _is_quantized(end))
    if gone and signs:
        effect = "would leave no -1" if one_signed else "changes nothing"
        return f"before the quantized input of {signs} it {effect}"
    if gone:
        return f"feeds only the quantized input of {normed}, through a norm"
    if not signs + normed:
        return f"feeds {others}, not a quantized input" if others else "its result is not used"
    helped = _names(end for end in ends if end.node in starved)
    text = f"also feeds {others or 'quantized inputs in another run'}"
    return text + (f"; a norm comes before {helped}" if helped else "")


def _names(ends: Iterable[End]) -> str:
    return ", ".join(dict.fromkeys(_describe(end) for end in ends))


def _describe(end: End) -> str:
    match end.reach:
        case "shortcut":
            return f"a shortcut ({end.name})"
        case "float layer":
            return f"{end.name} (float input)"
    return end.name
