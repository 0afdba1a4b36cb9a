"""Which activations a conversion removes: those that only stand before signs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from torch import fx, nn

from coarsegrad.nn.draft import Draft
from coarsegrad.nn.flow import End
from coarsegrad.nn.kinds import is_one_signed
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.nn.plan import Change
from coarsegrad.quantizers import Quantizer

# What becomes of one use of an activation: it has to go, may go, or stays.
_Verdict = Literal["must", "may", "stay"]


def few_levels(quantizer: Quantizer | None) -> bool:
    """Whether a quantizer is a nonlinearity of its own, so that none is needed before it.

    Beyond three levels (sign, Heaviside, ternary) it is nearly linear, and a ReLU means something.
    """
    return quantizer is not None and len(quantizer.levels) <= 3


def remove_activations(draft: Draft, input_of: dict[fx.Node, Quantizer | None]) -> set[fx.Node]:
    """Note the activations that go, and those that stay, with the reason; return the former.

    Args:
        draft: the conversion in the making.
        input_of: the input quantizer of each layer that will be converted.
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
    below_zero = {
        draft.flow.name(node)
        for node in draft.traced.graph.nodes
        if (found := quantizer(node)) is not None and min(found.levels) < 0
    }
    verdicts = _agreed(draft, nodes, lambda node: _verdict(draft, node, ends[node], below_zero))
    gone = {node for node in nodes if verdicts[node] != "stay"}
    for uses in _by_object(draft, nodes):
        _note(draft, uses, gone, ends)
    return gone


def _verdict(draft: Draft, node: fx.Node, ends: list[End], below_zero: set[str]) -> _Verdict:
    signs = [end for end in ends if end.reach in ("sign", "normed sign")]
    if not signs:
        return "stay"
    direct = any(end.reach == "sign" and end.name in below_zero for end in signs)
    if direct and is_one_signed(node, draft.traced.root):
        return "must"
    return "may" if len(signs) == len(ends) else "stay"


def _agreed(
    draft: Draft, nodes: list[fx.Node], verdict: Callable[[fx.Node], _Verdict]
) -> dict[fx.Node, _Verdict]:
    """Return verdicts that are the same for all runs of one line of code."""
    groups: dict[tuple[str, int], list[fx.Node]] = {}
    for node in nodes:
        place = draft.traced.place(node)
        groups.setdefault((place.owner, place.number), []).append(node)
    found: dict[fx.Node, _Verdict] = {}
    for group in groups.values():
        opinions = [verdict(node) for node in group]
        result: _Verdict = "may" if all(opinion != "stay" for opinion in opinions) else "stay"
        found |= dict.fromkeys(group, "must" if "must" in opinions else result)
    return found


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
    draft: Draft, uses: list[fx.Node], gone: set[fx.Node], ends: dict[fx.Node, list[End]]
) -> None:
    """Note one activation: exchanged for Identity, or taken out of the forwards that call it."""
    below = is_one_signed(uses[0], draft.traced.root)
    module = draft.original(uses[0]) if uses[0].op == "call_module" else None
    if module is not None and all(use in gone for use in uses):
        draft.exchange(str(uses[0].target), module, nn.Identity().train(module.training))
        every = [end for use in uses for end in ends[use]]
        what = type(module).__name__
        why = _reason(every, True, below)
        draft.changes.append(Change(str(uses[0].target), what, "Identity", why))
        return
    written: dict[tuple[str, int], list[fx.Node]] = {}
    for use in uses:
        place = draft.traced.place(use)
        written.setdefault((place.owner, place.number), []).append(use)
    for count, group in enumerate(written.values(), start=1):
        name, what = _title(draft, group[0], module, count if len(written) > 1 else 0)
        why = _reason([end for use in group for end in ends[use]], group[0] in gone, below)
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


def _reason(ends: list[End], gone: bool, one_signed: bool) -> str:
    signs = _names(end for end in ends if end.reach == "sign")
    normed = _names(end for end in ends if end.reach == "normed sign")
    others = _names(end for end in ends if end.reach not in ("sign", "normed sign"))
    if gone and signs:
        effect = "would leave no -1" if one_signed else "changes nothing"
        text = f"before the quantized input of {signs} it {effect}"
        return text + (f"; also read by {others}, now with both signs" if others else "")
    if gone:
        return f"feeds only the quantized input of {normed}, through a norm"
    if not signs + normed:
        return f"feeds {others}, not a quantized input" if others else "its result is not used"
    return f"also feeds {others}; the quantized input of {signs or normed} can do with it"


def _names(ends: Iterable[End]) -> str:
    return ", ".join(dict.fromkeys(_describe(end) for end in ends))


def _describe(end: End) -> str:
    match end.reach:
        case "shortcut":
            return f"a shortcut ({end.name})"
        case "float layer":
            return f"{end.name} (float input)"
    return end.name
