"""Segments: a weighted sum and all that follows it, up to the next weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from coarsegrad.deploy.capture import Chain
from coarsegrad.deploy.levels import Levels, Upper, levels_of
from coarsegrad.deploy.steps import Step
from coarsegrad.errors import PackError


@dataclass(frozen=True)
class Bits:
    """How a segment's result becomes bits, and what they stand for to those who read them.

    ``cut`` decides on what torch computes ahead of the first quantizer; ``reached`` reads the same
    bits off torch's value at the segment's end.
    """

    cut: Levels
    stand_for: Levels
    reached: Upper

    def signs(self, value: Tensor) -> Tensor:
        """Return -1 and +1, as a packed file has the bits of torch's ``value``."""
        return torch.where(self.reached(value), 1.0, -1.0)


@dataclass(frozen=True)
class Segment:
    """One layer, ``head``, and its tail.

    Without a layer it is what comes before the first, or floats that are made of bits again.
    ``before`` are the steps ahead of the quantizer, ``after`` those behind it; ``bits`` is None
    where there is none. ``fed`` says the same of the segment before. ``source`` is the node that
    feeds the segment, ``output`` its last node.
    """

    name: str
    head: Step | None
    before: tuple[Step, ...]
    bits: Bits | None
    after: tuple[Step, ...]
    source: fx.Node
    output: fx.Node
    fed: Bits | None

    def value(self, recorded: dict[fx.Node, Tensor]) -> Tensor:
        """Return torch's result of the segment: -1 and +1 where it ends on bits."""
        result = recorded[self.output]
        return result if self.bits is None else self.bits.signs(result)

    def input(self, recorded: dict[fx.Node, Tensor]) -> Tensor:
        """Return torch's input of the segment: -1 and +1 where it is fed by bits."""
        value = recorded[self.source]
        return value if self.fed is None else self.fed.signs(value)


def segments(chain: Chain) -> list[Segment]:
    """Cut a chain before each layer, and where bits become floats without one.

    Raises:
        PackError: a quantizer or an order of steps without a packed form, by name.
    """
    source = next(node for node in chain.traced.graph.nodes if node.op == "placeholder")
    steps = [step for step in chain.steps if step.kind != "pass"]
    cuts = [i for i, step in enumerate(steps) if step.kind == "layer" or _unpacks(steps, i)]
    found: list[Segment] = []
    fed: Bits | None = None
    for start, stop in zip([0, *cuts], [*cuts, len(steps)], strict=True):
        has_head = start < stop and steps[start].kind == "layer"
        head = steps[start] if has_head else None
        follower = steps[stop] if stop < len(steps) else None
        segment = _segment(head, steps[start + has_head : stop], follower, source, fed)
        if head is not None or start < stop or segment.bits is not None:
            found.append(segment)
        source, fed = segment.output, segment.bits
    if fed is not None and not fed.stand_for.is_sign:
        name = fed.stand_for.name
        found.append(Segment(name, None, (), None, (), source, source, fed))
    return found


def _unpacks(steps: list[Step], i: int) -> bool:
    """Whether step i averages bits, the first such behind a quantizer."""
    if steps[i].kind != "average":
        return False
    for step in reversed(steps[:i]):
        if step.kind in ("sign", "layer", "average"):
            return step.kind == "sign"
    return False


def _segment(
    head: Step | None, tail: list[Step], follower: Step | None, source: fx.Node, fed: Bits | None
) -> Segment:
    cut = next((i for i, step in enumerate(tail) if step.kind == "sign"), len(tail))
    before = tuple(tail[:cut])
    after = tuple(step for step in tail[cut:] if step.kind != "sign")
    for step in after:
        _check_behind(step)
    bits = _bits(tail, follower)
    if bits is not None and bits.cut.zero_is_upper:
        _check_relu(before)
    output = tail[-1].node if tail else head.node if head else source
    first = head or next(iter((*before, *after)), None)
    name = "input" if first is None else first.name
    if head is not None and fed is not None:
        _check_scale(head, fed.stand_for)
    return Segment(name, head, before, bits, after, source, output, fed)


def _bits(tail: list[Step], follower: Step | None) -> Bits | None:
    """Return how the tail's value becomes bits: by its quantizers, and by the next layer's."""
    found = [levels_of(step.module, step.name) for step in tail if step.kind == "sign"]
    standing = found[0] if found else None
    for behind in found[1:]:
        assert standing is not None
        standing = standing.through(behind)
    if standing is not None and standing.scale <= 0:
        raise PackError(
            f"{standing.name} has the scale {standing.scale:g}, which does not keep its levels in "
            "order; give it to the next layer as its input_quantizer, which multiplies the output"
        )
    quantizer = getattr(follower.module, "input_quantizer", None) if follower else None
    if quantizer is None or follower is None:
        return None if standing is None else Bits(found[0], standing, standing.reached)
    last = levels_of(quantizer, f"{follower.name}.input_quantizer")
    if standing is None:
        return Bits(last, last, last.upper)
    return Bits(found[0], standing.through(last), standing.reached)


def _check_behind(step: Step) -> None:
    if step.kind == "norm":
        raise PackError(
            f"{step.name} is a batch norm behind a sign, whose result is no longer a bit; "
            "put the batch norm before the sign"
        )
    if step.kind == "relu":
        raise PackError(
            f"{step.name} (ReLU) stands behind a sign, where it would make 0 of -1; remove it, or "
            "use Heaviside in place of both"
        )


def _check_relu(before: tuple[Step, ...]) -> None:
    """Refuse a ReLU whose result only the quantizer sees, where 0 and all above become +1."""
    for step in reversed(before):
        if step.kind == "norm":
            return
        if step.kind == "relu":
            raise PackError(
                f"{step.name} (ReLU) has no packed form here: a ReLU before a sign leaves only "
                "+1: remove it, or use Heaviside"
            )


def _check_scale(head: Step, fed: Levels) -> None:
    """Refuse levels with a scale in front of a layer that does not take it out of its sums."""
    own = getattr(head.module, "input_quantizer", None)
    if own is None and fed.scale != 1:
        raise PackError(
            f"{fed.name} has the scale {fed.scale:g} in front of {head.name}, whose sums then are "
            f"no integers; give it to {head.name} as its input_quantizer, which multiplies the "
            "output"
        )
