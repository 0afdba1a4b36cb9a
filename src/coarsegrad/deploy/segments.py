"""Segments: a weighted sum and all that follows it, up to the next weighted sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from coarsegrad.deploy.capture import Chain
from coarsegrad.deploy.levels import Digits, Levels, levels_of
from coarsegrad.deploy.steps import Step
from coarsegrad.errors import PackError


@dataclass(frozen=True)
class Bits:
    """How a segment's result becomes bits, and what they stand for to those who read them.

    ``levels`` decides on what torch computes ahead of the first quantizer; ``reached`` reads the
    same off torch's value at the segment's end.
    """

    levels: Levels
    reached: Digits

    def cells(self, value: Tensor) -> Tensor:
        """Return torch's ``value`` as a packed file has it: -1 and +1, or 0, 1, .. of more bits."""
        found = self.reached(value)
        return (2 * found - 1 if self.levels.bits == 1 else found).to(torch.float32)


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
        """Return torch's result of the segment; as cells where it ends on bits."""
        result = recorded[self.output]
        return result if self.bits is None else self.bits.cells(result)

    def input(self, recorded: dict[fx.Node, Tensor]) -> Tensor:
        """Return torch's input of the segment; as cells where it is fed by bits."""
        value = recorded[self.source]
        return value if self.fed is None else self.fed.cells(value)

    @property
    def table(self) -> Tensor | None:
        """The floats that cells have to become before anything reads them, or None.

        A layer reads integers, whose scale its own quantizer gives it to multiply its output.
        """
        if self.fed is None or self.fed.levels.is_sign:
            return None
        if self.head is None:
            return self.fed.levels.values
        own = getattr(self.head.module, "input_quantizer", None) is not None
        levels = self.fed.levels
        if levels.low is not None and (own or levels.scale == 1):
            return None
        return levels.table if own else levels.values


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
    if fed is not None and not fed.levels.is_sign:
        name = fed.levels.name
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
    bits = _bits(tail, follower)
    for step, quantizer in _behind_quantizers(tail):
        _check_behind(step, quantizer)
    after = tuple(step for step in after if step.kind != "relu")
    if bits is not None and bits.levels.zero_is_highest:
        _check_relu(before)
    output = tail[-1].node if tail else head.node if head else source
    first = head or next(iter((*before, *after)), None)
    name = "input" if first is None else first.name
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
        return None if standing is None else Bits(standing, standing.reached)
    last = levels_of(quantizer, f"{follower.name}.input_quantizer")
    return Bits(last if standing is None else standing.through(last), last.digits)


def _behind_quantizers(tail: list[Step]) -> Iterator[tuple[Step, Step]]:
    """Yield each step behind a quantizer, and the last quantizer ahead of it."""
    quantizer: Step | None = None
    for step in tail:
        if step.kind == "sign":
            quantizer = step
        elif quantizer is not None:
            yield step, quantizer


def _check_behind(step: Step, quantizer: Step) -> None:
    """Refuse what would change the levels; a ReLU leaves those of 0 and above as they are."""
    if step.kind == "norm":
        raise PackError(
            f"{step.name} is a batch norm behind a quantizer, whose result is no longer a bit or "
            "a level; put the batch norm before the quantizer"
        )
    if step.kind == "relu" and levels_of(quantizer.module, quantizer.name).values[0] < 0:
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
