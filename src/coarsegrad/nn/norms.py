"""Where a conversion inserts batch norms, and which biases are idle before one.

Sums of n signs have a standard deviation of sqrt(n): a layer with quantized weights needs a norm
before whatever follows it. Batch norm subtracts the mean of each channel, a bias included.
"""

from __future__ import annotations

from torch import Tensor, fx, nn

from coarsegrad.nn.draft import Draft
from coarsegrad.nn.edits import Freeze
from coarsegrad.nn.plan import Change


def insert_norms(
    draft: Draft, uses: dict[str, list[fx.Node]], gone: set[fx.Node], ranks: dict[fx.Node, int]
) -> dict[str, list[str]]:
    """Note a batch norm behind each layer whose sums reach something without one.

    Args:
        draft: the conversion in the making.
        uses: layers with quantized weights, and the nodes that call each.
        gone: activations that will be removed.
        ranks: numbers of dimensions for an example batch; may be empty.

    Returns:
        For each layer whose bias only meets batch norms, their names.
    """
    idle: dict[str, list[str]] = {}
    done: dict[tuple[str, int], str] = {}
    for name, nodes in uses.items():
        norms: list[list[str] | None] = []
        for node in nodes:
            ends = draft.flow.unnormed_ends(node, gone)
            place = draft.traced.place(node)
            line = (place.owner, place.number)
            if ends and line not in done:
                done[line] = _insert(draft, name, node, ends, draft.flow.rank(node, ranks))
            inserted = done.get(line)
            found = draft.flow.norms_behind(node, gone) if inserted is None else [inserted]
            norms.append(found if inserted != "" else None)
        if all(norms):
            idle[name] = [norm for group in norms for norm in group or ()]
    return idle


def _insert(draft: Draft, name: str, node: fx.Node, ends: list[str], rank: int | None) -> str:
    """Note one batch norm; return its name, or an empty one where none fits."""
    layer = draft.original(node)
    assert isinstance(layer, (nn.Conv2d, nn.Linear))
    reach = ", ".join(dict.fromkeys(ends))
    if isinstance(layer, nn.Linear) and rank not in (2, None):
        draft.kept.append(
            Change(
                name, "no norm behind it", "no norm behind it",
                f"its sums reach {reach} without a norm, but have {rank} dimensions, which "
                "BatchNorm1d would misread; add one that fits, such as nn.LayerNorm",
            )
        )  # fmt: skip
        return ""
    kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    channels = layer.weight.shape[0]
    norm = kind(channels, device=layer.weight.device, dtype=layer.weight.dtype)
    where = draft.insert_norm(node, norm.train(layer.training))
    why = f"the sums of {name} reach {reach} without a norm"
    if isinstance(layer, nn.Linear) and rank is None:
        why += "; right for (N, C) inputs, pass x=batch to have it checked"
    draft.changes.append(Change(where, "nothing", f"{kind.__name__}({channels})", why))
    return where


def freeze_idle_biases(
    draft: Draft, idle: dict[str, list[str]], layers: dict[str, nn.Module]
) -> None:
    """Note the biases that batch norm subtracts again; their keys and values stay.

    Args:
        draft: the conversion in the making.
        idle: names of layers, and of the batch norms behind each.
        layers: the quantized layers by name.
    """
    for name, norms in idle.items():
        bias = layers[name]._parameters.get("bias")
        if not isinstance(bias, Tensor) or not bias.requires_grad or _is_tied(draft.model, bias):
            continue
        draft.edits.append(Freeze(layers[name]))
        why = f"{', '.join(dict.fromkeys(norms))} subtracts it again"
        draft.changes.append(Change(f"{name}.bias", "trained", "frozen", why))


def _is_tied(model: nn.Module, parameter: Tensor) -> bool:
    """Whether more than one module holds a parameter."""
    holders = sum(
        any(own is parameter for own in module._parameters.values()) for module in model.modules()
    )
    return holders > 1
