"""convert: a float torch model into a quantized one, in place, and back."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, fx, nn

from coarsegrad.errors import ConvertError, nearest
from coarsegrad.nn.activations import remove_activations
from coarsegrad.nn.calibrated import calibrated
from coarsegrad.nn.draft import Draft
from coarsegrad.nn.edits import quantized
from coarsegrad.nn.flow import Flow
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.nn.norms import freeze_idle_biases, insert_input_norms, insert_norms
from coarsegrad.nn.plan import Change, Plan
from coarsegrad.nn.ranks import Rank, ranks
from coarsegrad.nn.trace import trace
from coarsegrad.quantizers import Quantizer, Sign
from coarsegrad.quantizers import precision as named_quantizers
from coarsegrad.ste import ClippedIdentity, Identity

End = Literal["float", "weights", "binary"]


@dataclass(frozen=True)
class _Choice:
    """What becomes of one layer."""

    inputs: bool
    weights: bool
    why: str


def convert(
    model: nn.Module,
    input_quantizer: Quantizer | Literal["sign"] | None = "sign",
    weight_quantizer: Quantizer | Literal["sign"] | None = "sign",
    *,
    skip: str | Iterable[str] = (),
    first: End = "float",
    last: End = "float",
    precision: str | None = None,
    x: Tensor | tuple[Tensor, ...] | None = None,
    dry_run: bool = False,
) -> Plan:
    r"""Quantize the layers of a float model, in place, and return the plan of what was done.

    ``torch.nn.Conv2d`` and ``Linear`` become ``coarsegrad.nn.Conv2d`` and ``Linear`` on the same
    Parameter objects, under the same keys. Activations that only stand before signs become
    Identity; a batch norm comes behind each layer with 1- or 2-bit weights where none is; their
    biases that batch norm subtracts again are frozen. An inserted norm knows nothing of the data
    before the first training batch: evaluate a converted model only after some steps.

    A forward that calls functions such as ``F.relu`` is generated anew from what torch.fx sees of
    it; Python side effects in it vanish.

    A ReLU whose result a shortcut or a float layer reads as well stays. Since it leaves no -1 for
    a sign, a batch norm then comes before that sign, as in XNOR-Net's blocks (Rastegari et al.
    2016, arXiv:1603.05279, section 3.2).

    Args:
        model: any model that torch.fx can trace; its dtype, device, mode and hooks stay.
        input_quantizer: copied for each layer; ``"sign"`` is ``Sign(ste=ClippedIdentity())``,
            None leaves inputs float, and activations where they are.
        weight_quantizer: copied for each layer; ``"sign"`` is ``Sign(ste=Identity())``, None
            leaves weights float.
        skip: regular expressions; a layer stays float where one matches its whole dotted name,
            or that of a module that holds it (``re.fullmatch``).
        first: layers that the model's input reaches without another conv or linear before, in
            order of execution: ``"float"`` leaves them, ``"weights"`` quantizes their weights
            only, ``"binary"`` treats them as all others.
        last: the same for layers that reach the model's output without another behind.
        precision: ``"W1A2"`` and the like, as in ``quantizers.precision``, instead of the two
            quantizers: 1 to 8 bits, or 32 for float. Quantized ReLUs round to nearest levels and
            get their steps from ``x``, by ``nn.calibrate``; without it, the step that is best for
            inputs of N(0, 1).
        x: an example batch, or a tuple of them; tells shapes that the graph does not.
        dry_run: plan only; the model is left as it is.

    Raises:
        ConvertError: the model cannot be traced, nothing in it can be converted, or an argument
            is wrong; the model is as it was.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(),
    ...     torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> plan = convert(net)
    >>> [type(layer).__name__ for layer in net]
    ['Conv2d', 'Identity', 'Conv2d', 'BatchNorm2d', 'ReLU', 'Flatten', 'Linear']
    >>> [change.name for change in plan.changes]
    ['2', '1', '2_norm', '2.bias']
    """
    _check_end("first", first)
    _check_end("last", last)
    quantizers = _quantizers(input_quantizer, weight_quantizer, precision)
    if quantizers == (None, None):
        raise ConvertError(
            "convert needs an input_quantizer or a weight_quantizer, got None for both, which "
            "leaves every layer float; for example weight_quantizer=Sign()"
        )
    layers = _layers(model)
    skipped = _skipped(model, layers, [skip] if isinstance(skip, str) else list(skip))
    traced = trace(model)
    draft = Draft(model, traced, Flow(traced))
    known = ranks(draft.flow, x)
    uses = _uses(draft, layers)
    choices = _choices(draft, layers, uses, skipped, (first, last), quantizers)
    _collect(draft, layers, uses, choices, quantizers, known)
    if dry_run:
        return Plan(model, draft.changes, draft.kept, None)
    for edit in draft.edits:
        edit.apply()
    plan = Plan(model, draft.changes, draft.kept, draft.edits)
    return plan if precision is None or x is None else calibrated(plan, x)


def _quantizers(
    inputs: object, weights: object, precision: str | None
) -> tuple[Quantizer | None, Quantizer | None]:
    """Return the input and the weight quantizer that the arguments stand for."""
    if precision is None:
        return (
            _quantizer("input_quantizer", inputs, Sign(ste=ClippedIdentity())),
            _quantizer("weight_quantizer", weights, Sign(ste=Identity())),
        )
    if (inputs, weights) != ("sign", "sign"):
        raise ConvertError(
            f"convert needs precision or quantizers, got precision={precision!r} and "
            f"input_quantizer={inputs!r}, weight_quantizer={weights!r}; leave one of them out"
        )
    try:
        # Nearest levels change a trained network least.
        found = named_quantizers(precision, levels="round")
    except ValueError as error:
        raise ConvertError(f"convert: {error}") from error
    return found.inputs, found.weights


def _check_end(argument: str, value: object) -> None:
    if value not in get_args(End):
        raise ConvertError(
            f"convert needs {argument} to be one of {', '.join(get_args(End))}, got {value!r}."
            + nearest(str(value), get_args(End))
        )


def _quantizer(argument: str, value: object, default: Quantizer) -> Quantizer | None:
    if value == "sign":
        return default
    if value is None or (isinstance(value, Quantizer) and not isinstance(value, type)):
        return value
    advice = f"; did you mean {value.__name__}()?" if isinstance(value, type) else ""
    raise ConvertError(
        f"convert needs {argument} to be a quantizer object, 'sign' or None, got {value!r}"
        f"{advice or '; for example Sign(ste=ClippedIdentity())'}"
    )


def _layers(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers that can be converted, by the first of their names."""
    if not isinstance(model, nn.Module):
        raise ConvertError(
            f"convert needs a torch.nn.Module, got {type(model).__name__}: build the model first"
        )
    if type(model) in (nn.Conv2d, nn.Linear):
        raise ConvertError(
            f"convert changes the layers inside a model, got a bare {type(model).__name__}; wrap "
            "it in nn.Sequential, or build the layer of coarsegrad.nn"
        )
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and type(module) in (nn.Conv2d, nn.Linear)
    }
    if not found:
        raise _nothing(model, "it has no torch.nn.Conv2d or Linear (subclasses are left alone)")
    return found


def _nothing(model: nn.Module, reason: str) -> ConvertError:
    if any(isinstance(module, LatentWeight) for module in model.modules()):
        return ConvertError(
            f"convert needs a float model, got a {type(model).__name__} that is already converted "
            f"or quantized: {reason}; undo() its plan first to convert it differently"
        )
    return ConvertError(
        f"convert found nothing to convert in {type(model).__name__}: {reason}; first and last "
        "layers are float unless first='weights' or 'binary' (likewise last)"
    )


def _skipped(
    model: nn.Module, layers: dict[str, nn.Conv2d | nn.Linear], patterns: list[str]
) -> dict[str, str]:
    """Return the layers to skip, each with the pattern that matches it or a module around it."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    found: dict[str, str] = {}
    for pattern in patterns:
        try:
            expression = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ConvertError(
                f"convert needs skip to hold regular expressions, got {pattern!r}, which fails "
                f"with: {error}; escape a dot as \\."
            ) from error
        matched = {
            name: pattern
            for name, layer in layers.items()
            if any(expression.fullmatch(part) for alias in names[layer] for part in _around(alias))
        }
        if not matched:
            around = dict.fromkeys(part for name in layers for part in _around(name))
            listed = ", ".join(list(layers)[:6]) + (" ..." if len(layers) > 6 else "")
            raise ConvertError(
                f"convert needs each skip to match a whole layer name, got {pattern!r}, which "
                f"matches none of {listed}." + nearest(pattern, around)
            )
        found = matched | found
    return found


def _around(name: str) -> list[str]:
    """Return a dotted name and those of the modules that hold it: a, a.b, a.b.c."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _uses(draft: Draft, layers: dict[str, nn.Conv2d | nn.Linear]) -> dict[str, list[fx.Node]]:
    """Return the nodes that call each layer, in order of execution."""
    names = {layer: name for name, layer in layers.items()}
    found: dict[str, list[fx.Node]] = {name: [] for name in layers}
    for node in draft.traced.graph.nodes:
        if node.op == "call_module" and (layer := draft.original(node)) in names:
            found[names[layer]].append(node)
    return found


def _choices(
    draft: Draft,
    layers: dict[str, nn.Conv2d | nn.Linear],
    uses: dict[str, list[fx.Node]],
    skipped: dict[str, str],
    ends: tuple[End, End],
    quantizers: tuple[Quantizer | None, Quantizer | None],
) -> dict[str, _Choice]:
    """Return what becomes of the layers that are converted; note the others as kept."""
    reached = (draft.flow.first(), draft.flow.last())
    found: dict[str, _Choice] = {}
    order = {node: index for index, node in enumerate(draft.traced.graph.nodes)}
    called = sorted(
        layers, key=lambda name: min((order[n] for n in uses[name]), default=len(order))
    )
    for name in called:
        layer = layers[name]
        held = [
            (treatment, text)
            for treatment, nodes, text in zip(
                ends, reached, ("first: the input feeds it", "last: it feeds the output"),
                strict=True,
            )
            if any(node in nodes for node in uses[name])
        ]  # fmt: skip
        reason = _reason_to_keep(layer, uses[name], skipped.get(name), held, quantizers)
        if reason:
            draft.kept.append(Change(name, f"float {type(layer).__name__}", "float", reason))
            continue
        only = [text for treatment, text in held if treatment == "weights"]
        why = only[0] if only else held[0][1] if held else "neither first nor last"
        found[name] = _Choice(
            quantizers[0] is not None and not only, quantizers[1] is not None, why
        )
    _keep_tied(draft, layers, found)
    if not found:
        raise _nothing(draft.model, "; ".join(f"{c.name}: {c.why}" for c in draft.kept[:4]))
    return found


def _keep_tied(
    draft: Draft, layers: dict[str, nn.Conv2d | nn.Linear], found: dict[str, _Choice]
) -> None:
    """Keep layers float whose weight a float module holds too: it cannot be latent and real."""
    tied = True
    while tied:
        latent = {layers[name] for name, choice in found.items() if choice.weights}
        floats = {
            id(own): name
            for name, module in draft.model.named_modules()
            if module not in latent
            for own in module._parameters.values()
        }
        tied = False
        for name in [name for name in found if id(layers[name].weight) in floats]:
            if found[name].weights:
                tied = True
                del found[name]
                what = f"float {type(layers[name]).__name__}"
                why = f"its weight is also that of {floats[id(layers[name].weight)]}, a float one"
                draft.kept.append(Change(name, what, "float", why))


def _reason_to_keep(
    layer: nn.Conv2d | nn.Linear,
    nodes: list[fx.Node],
    skip: str | None,
    held: list[tuple[End, str]],
    quantizers: tuple[Quantizer | None, Quantizer | None],
) -> str:
    """Return why a layer stays float, or nothing."""
    if skip is not None:
        return f"skip={skip!r}"
    if not nodes:
        return "the model's forward does not call it, or only inside a module torch runs itself"
    if not isinstance(layer._parameters.get("weight"), Tensor):
        return "its weight is computed from other parameters"
    if not layer.weight.is_floating_point():
        return f"its weight is {layer.weight.dtype}"
    for treatment, text in held:
        if treatment == "float":
            return text
    if quantizers[1] is None and any(treatment == "weights" for treatment, _ in held):
        return "only its weights were to be quantized, and weight_quantizer is None"
    return ""


def _collect(
    draft: Draft,
    layers: dict[str, nn.Conv2d | nn.Linear],
    uses: dict[str, list[fx.Node]],
    choices: dict[str, _Choice],
    quantizers: tuple[Quantizer | None, Quantizer | None],
    known: dict[fx.Node, Rank],
) -> None:
    """Collect all edits in the draft, in the order in which they are applied."""
    made = _exchange(draft, layers, choices, *quantizers)
    fed = {
        n: quantizers[0] if c.inputs else None for name, c in choices.items() for n in uses[name]
    }
    gone, starved = remove_activations(draft, fed)
    summed = {
        name: uses[name]
        for name, choice in choices.items()
        if choice.weights and _needs_norm(quantizers[1])
    }
    insert_input_norms(draft, starved, known)
    idle = insert_norms(draft, summed, gone, known)
    draft.generate_forwards()
    freeze_idle_biases(draft, idle, made)


def _needs_norm(weights: Quantizer | None) -> bool:
    """Whether sums on these weights need a norm where the float layer needed none.

    From 3 bits on, levels times scale are the float weights but for a small error, and so are the
    sums: a norm would only change a trained network.
    """
    return weights is not None and weights.bits <= 2


def _exchange(
    draft: Draft,
    layers: dict[str, nn.Conv2d | nn.Linear],
    choices: dict[str, _Choice],
    inputs: Quantizer | None,
    weights: Quantizer | None,
) -> dict[str, nn.Module]:
    """Note the quantized layers, each with quantizers of its own; return them by name."""
    made: dict[str, nn.Module] = {}
    for name, choice in choices.items():
        layer = layers[name]
        own = (
            copy.deepcopy(inputs) if choice.inputs else None,
            copy.deepcopy(weights) if choice.weights else None,
        )
        try:
            made[name] = quantized(layer, *own)
        except (TypeError, ValueError) as error:
            raise ConvertError(f"convert cannot give {name} these quantizers: {error}") from error
        sides = [
            f"{q.bits}-bit {side}" if q is not None else f"float {side}"
            for q, side in zip(reversed(own), ("weights", "inputs"), strict=True)
        ]
        draft.exchange(name, layer, made[name])
        draft.changes.append(Change(name, type(layer).__name__, ", ".join(sides), choice.why))
    return made
