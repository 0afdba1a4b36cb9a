"""Where a conversion inserts batch norms, and which biases are idle before one.

Sums of n signs have a standard deviation of sqrt(n): a layer with quantized weights needs a norm
before whatever follows it. Batch norm subtracts the mean of each channel, a bias included.
"""

from __future__ import annotations

from torch import Tensor, fx, nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.draft import Draft
from coarsegrad.nn.edits import Freeze
from coarsegrad.nn.plan import Change
from coarsegrad.nn.ranks import Rank


def insert_norms(
    draft: Draft, uses: dict[str, list[fx.Node]], gone: set[fx.Node], ranks: dict[fx.Node, Rank]
) -> dict[str, list[str]]:
    """Note a batch norm behind each layer whose sums reach something without one.

    Args:
        draft: the conversion in the making.
        uses: layers with quantized weights, and the nodes that call each.
        gone: activations that will be removed.
        ranks: numbers of dimensions.

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
                layer = draft.original(node)
                assert isinstance(layer, (nn.Conv2d, nn.Linear))
                reach = ", ".join(dict.fromkeys(ends))
                why = f"the sums of {name} reach {reach} without a norm"
                norm = (layer.weight.shape[0], ranks.get(node), why)
                done[line] = _insert(draft, layer, node, norm, before=False)
            inserted = done.get(line)
            found = draft.flow.norms_behind(node, gone) if inserted is None else [inserted]
            norms.append(found if inserted != "" else None)
        if all(norms):
            idle[name] = [norm for group in norms for norm in group or ()]
    return idle


def insert_input_norms(
    draft: Draft, starved: dict[fx.Node, str], ranks: dict[fx.Node, Rank]
) -> None:
    """Note a batch norm before each quantized input that would never see a -1.

    Args:
        draft: the conversion in the making.
        starved: the nodes, and the name of what feeds each.
        ranks: numbers of dimensions.
    """
    done: set[tuple[str, int]] = set()
    for node, source in starved.items():
        place = draft.traced.place(node)
        if (place.owner, place.number) in done:
            continue
        done.add((place.owner, place.number))
        why = f"{source} is hardly ever below 0, which the quantized input of {node.target} needs"
        layer = draft.original(node) if node.op == "call_module" else None
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            size = layer.weight.shape[1] * getattr(layer, "groups", 1)
            rank = ranks.get(node.all_input_nodes[0])
            _insert(draft, layer, node, (size, rank, why), before=True)
        else:
            what = "no norm before it"
            draft.kept.append(Change(draft.flow.name(node), what, what, f"{why}: add a norm"))


def _insert(
    draft: Draft,
    layer: nn.Conv2d | nn.Linear,
    node: fx.Node,
    norm: tuple[int, Rank, str],
    *,
    before: bool,
) -> str:
    """Note one batch norm (channels, rank, reason); return its name, or "" where none fits."""
    channels, rank, why = norm
    if isinstance(layer, nn.Linear) and rank not in (2, "input"):
        missing = f"no norm {'before' if before else 'behind'} it"
        why += (
            "; how many dimensions its values have is not told: pass x=batch"
            if rank is None
            else f"; BatchNorm1d would misread their {rank} dimensions: add a norm that fits"
        )
        draft.kept.append(Change(str(node.target), missing, missing, why))
        return ""
    kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    made = kind(channels, device=layer.weight.device, dtype=layer.weight.dtype)
    if isinstance(layer, nn.Linear) and rank == "input":
        why += "; right for a model fed (N, C), which it checks"
        made.register_forward_pre_hook(refuse_more_dimensions)
    where = draft.insert_norm(node, made.train(layer.training), before=before)
    draft.changes.append(Change(where, "nothing", f"{kind.__name__}({channels})", why))
    return where


def refuse_more_dimensions(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Refuse values of (N, L, C), of which BatchNorm1d would take L for the channels.

    A forward pre-hook of norms behind dense layers whose rank only the model's input decides.

    Raises:
        ConvertError: the values have another rank than 2.
    """
    if inputs[0].dim() != 2:
        raise ConvertError(
            f"the batch norm that convert put here needs (N, {norm.num_features}), got "
            f"{list(inputs[0].shape)}, whose channels it would mistake; undo() the plan and "
            "convert with x=batch, so that layers on more dimensions get none"
        )


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
        why = f"idle: subtracted again by {', '.join(dict.fromkeys(norms))}"
        draft.changes.append(Change(f"{name}.bias", "trained", "frozen", why))


def _is_tied(model: nn.Module, parameter: Tensor) -> bool:
    """Whether more than one module holds a parameter."""
    holders = sum(
        any(own is parameter for own in module._parameters.values()) for module in model.modules()
    )
    return holders > 1
