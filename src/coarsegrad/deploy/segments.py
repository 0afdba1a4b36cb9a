"""Segments: a weighted sum and all that follows it, up to the next weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from coarsegrad.deploy.capture import Chain, Step
from coarsegrad.deploy.fold import Tail
from coarsegrad.errors import PackError
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer, binary_sign


@dataclass(frozen=True)
class Segment:
    """One layer (``head``, or None for what precedes the first) and its tail.

    ``before`` are the steps ahead of the sign, ``after`` those behind it; ``signed`` says whether
    there is one. ``source`` is the node that feeds the segment, ``output`` its last node.
    """

    head: Step | None
    before: tuple[Step, ...]
    signed: bool
    after: tuple[Step, ...]
    source: fx.Node
    output: fx.Node
    fed_by_bits: bool

    @property
    def name(self) -> str:
        """The layer's name, or that of the first step."""
        if self.head is not None:
            return self.head.name
        return next((step.name for step in (*self.before, *self.after)), "input")

    def value(self, recorded: dict[fx.Node, Tensor]) -> Tensor:
        """Return torch's result of the segment: -1 and +1 where it ends on bits."""
        result = recorded[self.output]
        return binary_sign(result) if self.signed else result

    def fed(self, recorded: dict[fx.Node, Tensor]) -> Tensor:
        """Return torch's input of the segment: -1 and +1 where it is fed by bits."""
        value = recorded[self.source]
        return binary_sign(value) if self.fed_by_bits else value


def segments(chain: Chain) -> list[Segment]:
    """Cut a chain before each layer.

    Raises:
        PackError: a quantizer or an order of steps without a packed form, by name.
    """
    source = next(node for node in chain.traced.graph.nodes if node.op == "placeholder")
    steps = [step for step in chain.steps if step.kind != "pass"]
    cuts = [i for i, step in enumerate(steps) if step.kind == "layer"]
    found: list[Segment] = []
    bits = False
    for start, stop in zip([None, *cuts], [*cuts, len(steps)], strict=True):
        head = None if start is None else steps[start]
        tail = steps[:stop] if start is None else steps[start + 1 : stop]
        follower = steps[stop] if stop < len(steps) else None
        segment = _segment(head, tail, follower, source, bits)
        if head is not None or tail or segment.signed:
            found.append(segment)
        source, bits = segment.output, segment.signed
    return found


def _segment(
    head: Step | None, tail: list[Step], follower: Step | None, source: fx.Node, bits: bool
) -> Segment:
    signs = [i for i, step in enumerate(tail) if step.kind == "sign"]
    for i in signs:
        _check_sign(tail[i].module, tail[i].name)
    cut = signs[0] if signs else len(tail)
    before = tuple(tail[:cut])
    after = tuple(step for step in tail[cut:] if step.kind != "sign")
    for step in after:
        if step.kind == "norm":
            raise PackError(
                f"{step.name} is a batch norm behind a sign, whose result is no longer a bit; "
                "put the batch norm before the sign"
            )
    quantizer = getattr(follower.module, "input_quantizer", None) if follower else None
    if quantizer is not None and follower is not None:
        _check_sign(quantizer, f"{follower.name}.input_quantizer", scalable=True)
    output = tail[-1].node if tail else head.node if head else source
    signed = bool(signs) or quantizer is not None
    return Segment(head, before, signed, after, source, output, bits)


def _check_sign(quantizer: nn.Module | Quantizer, name: str, *, scalable: bool = False) -> None:
    """Refuse what is not a sign at 0, or has a scale; ``scalable`` if its layer can take one in."""
    assert isinstance(quantizer, Quantizer)
    if tuple(quantizer.levels) != (-1.0, 1.0):
        raise PackError(
            f"{name} has the levels {quantizer.levels}; packed activations need (-1, 1): use Sign"
        )
    probe = torch.tensor([[-2.0, -0.6, -1e-30, -0.0, 0.0, 1e-30, 0.6, 2.0]])
    levels, scale = quantizer.split(probe)
    if not torch.equal(levels, binary_sign(probe)):
        raise PackError(
            f"{name} ({type(quantizer).__name__}) cuts elsewhere than at 0; packed activations "
            "are signs: move the cut into the batch norm before it"
        )
    if scale is not None and getattr(quantizer, "data_dependent", True):
        raise PackError(
            f"{name} has a scale that depends on the data, which no packed file can hold; "
            "use scale='none', the batch norm that follows absorbs it"
        )
    if scale is not None and not scalable:
        raise PackError(
            f"{name} has a learned scale and stands on its own; make it the input_quantizer of the "
            "layer that follows, whose sums can take the scale in"
        )


def scales_of(module: nn.Module) -> list[Tensor]:
    """Return the scales by which a layer multiplies its sum, in the order of its forward."""
    if not isinstance(module, LatentWeight):
        return []
    found: list[Tensor | None] = []
    if module.input_quantizer is not None:
        # Only a scale that no input changes has passed the check of its sign.
        found.append(module.input_quantizer.split(torch.zeros(1, 1))[1])
    if module.weight_quantizer is not None:
        found.append(module.weight_quantizer.split(module.weight.detach())[1])
    return [scale for scale in found if scale is not None]


def affine_of(module: nn.Module) -> Tail:
    """Return what a layer does to its sum: times its scales, plus its bias, as its forward does."""
    scales = scales_of(module)
    bias = module.bias.detach() if isinstance(module.bias, Tensor) else None

    def tail(sums: Tensor) -> Tensor:
        shape = (-1, *(1,) * (sums.dim() - 2))
        for scale in scales:
            sums = sums * scale.reshape(shape)
        return sums if bias is None else sums + bias.reshape(shape)

    return tail
