"""Lowering: segments of a captured model become the ops and tensors of a packed program."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from coarsegrad.deploy.capture import Chain
from coarsegrad.deploy.fold import float_thresholds, integer_thresholds
from coarsegrad.deploy.layers import (
    affine_of,
    conv_op,
    layer_terms,
    linear_op,
    norm_terms,
    pool_op,
    scales_of,
    stored_weight,
)
from coarsegrad.deploy.segments import Segment
from coarsegrad.deploy.steps import Step
from coarsegrad.errors import PackError
from coarsegrad.packed import (
    Affine,
    Conv,
    Flatten,
    Levels,
    Linear,
    Op,
    Relu,
    Sign,
    Threshold,
    largest_sum,
)
from coarsegrad.packed.program import MAX_EXACT_SUM


@dataclass
class Lowering:
    """Ops and tensors collected so far; ``recorded`` gives the shape of every node's value.

    ``terms`` has for each affine, per channel, the sizes of what its shift is the sum of: float
    results that nearly cancel are as far from torch's as these are large.
    """

    recorded: dict[fx.Node, Tensor]
    ops: list[Op] = field(default_factory=list)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    terms: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def segment(self, segment: Segment) -> tuple[int, int]:
        """Append one segment; return the range of its ops."""
        start = len(self.ops)
        if segment.table is not None:
            self._unpack(segment, segment.table)
        if segment.head is not None:
            self._head(segment.head, segment)
        if segment.bits is not None:
            self._to_bits(segment)
        else:
            self._to_floats(segment.head, segment.before)
        return start, len(self.ops)

    def _head(self, head: Step, segment: Segment) -> None:
        module = head.module
        stored = stored_weight(module, head.name)
        self.tensors[f"{head.name}.weight"] = stored.array
        low = segment.fed.levels.low if self._reads_bits(segment) and segment.fed else -1
        assert low is not None
        if isinstance(module, nn.Conv2d):
            self.ops.append(conv_op(module, head.name, int(low), stored))
            return
        rank = self.recorded[segment.source].dim()
        if rank != 2:
            raise PackError(
                f"{head.name} is a dense layer on {rank - 1}-dimensional samples; flatten first"
            )
        self.ops.append(linear_op(module, head.name, int(low), stored))

    def _unpack(self, segment: Segment, table: Tensor) -> None:
        """Make floats of cells."""
        assert segment.fed is not None
        levels = segment.fed.levels
        if levels.bits == 1 and levels.low is not None:
            channels = self.recorded[segment.source].shape[1]
            half = np.array([[1 - levels.low], [1 + levels.low]]) / 2
            name = segment.name if segment.head is None else levels.name
            self._add_affine(name, np.repeat(levels.scale * half, channels, 1))
            return
        self.ops.append(Levels(levels.name))
        self.tensors[f"{levels.name}.levels"] = table.numpy()

    def _to_bits(self, segment: Segment) -> None:
        """Append floats up to the last average, then the threshold amid pools and a flattening.

        Those that a batch norm or ReLU follows stay ahead of the threshold: a maximum may move
        ahead of a non-decreasing function, and a sign ahead of a maximum.
        """
        assert segment.bits is not None
        head, steps, node = segment.head, segment.before, segment.source
        if head is not None:
            node = head.node
        averaged = _behind_last(steps, "average")
        if averaged:
            self._to_floats(head, steps[:averaged])
            head, node, steps = None, steps[averaged - 1].node, steps[averaged:]
        tail = _behind_last(steps, "norm", "relu")
        folded, rest = steps[:tail], steps[tail:]
        if head is None and not folded and segment.bits.levels.cuts_as_a_sign:
            self._reshape(rest)
            self.ops.append(Sign())
        else:
            _check_pools_commute(head, folded)
            self._reshape(tuple(step for step in folded if step.kind in ("pool", "flatten")))
            self._threshold(segment, head, folded, node)
            self._reshape(rest)
        self._reshape(segment.after)

    def _threshold(
        self, segment: Segment, head: Step | None, folded: tuple[Step, ...], node: fx.Node
    ) -> None:
        """Append the threshold on the value of ``node``, behind which ``folded`` come."""
        assert segment.bits is not None
        levels = segment.bits.levels
        tails = [] if head is None else [affine_of(head.module)]
        tails += [step.module for step in folded if step.kind != "pool"]
        first = head or next(iter(folded), None)
        name = levels.name if first is None else first.name
        shape = self._trial_shape(folded, node)
        count, tail = len(levels.table), _compose(tails)
        largest = None if head is None else self._largest_sum(segment)
        if largest is None:
            found = float_thresholds(tail, shape, levels.digits, count)
        else:
            found = integer_thresholds(tail, shape, largest, name, levels.digits, count)
        self.ops.append(Threshold(name, levels.bits))
        self.tensors[f"{name}.threshold"] = found.t[0] if levels.bits == 1 else found.t
        if found.flip.any():
            self.tensors[f"{name}.flip"] = np.packbits(found.flip, bitorder="little")

    def _reads_bits(self, segment: Segment) -> bool:
        """Whether the layer reads cells as the integers they are."""
        return segment.fed is not None and segment.table is None

    def _largest_sum(self, segment: Segment) -> int | None:
        """Return the most that the layer's integer sums reach, or None for float sums."""
        op = next(op for op in reversed(self.ops) if isinstance(op, (Conv, Linear)))
        packed = self.tensors[f"{op.name}.weight"].dtype == np.uint8
        if segment.fed is None or not packed or not self._reads_bits(segment):
            return None
        largest = largest_sum(op, self.tensors, 2**segment.fed.levels.bits - 1)
        return largest if largest <= MAX_EXACT_SUM else None

    def _trial_shape(self, folded: tuple[Step, ...], node: fx.Node) -> tuple[int, ...]:
        flat = next((i for i, step in enumerate(folded) if step.kind == "flatten"), None)
        if flat is not None:
            return tuple(self.recorded[folded[flat - 1].node if flat else node].shape[1:])
        channels, *sizes = self.recorded[node].shape[1:]
        return (channels, *(1 for _ in sizes))

    def _to_floats(self, head: Step | None, before: tuple[Step, ...]) -> None:
        """In torch's order; each run of scales, bias and batch norms becomes one a * s + b."""
        steps = list(before)
        if head is not None and _has_affine(head.module):
            norms = list(itertools.takewhile(lambda step: step.kind == "norm", steps))
            self._affine([head, *norms])
            steps = steps[len(norms) :]
        for kind, group in itertools.groupby(steps, lambda step: step.kind):
            if kind == "norm":
                self._affine(list(group))
            else:
                self._reshape(tuple(group))

    def _affine(self, steps: list[Step]) -> None:
        a = torch.ones(1, dtype=torch.float64)
        b = terms = torch.zeros(1, dtype=torch.float64)
        for step in steps:
            found = norm_terms if step.kind == "norm" else layer_terms
            scale, shift, sizes = found(step.module)
            a, b, terms = a * scale, b * scale + shift, terms * scale.abs() + sizes
        name = steps[0].name
        self._add_affine(name, torch.stack([a, b]).numpy())
        self.terms[name] = terms.numpy()

    def _add_affine(self, name: str, rows: NDArray[np.float64]) -> None:
        self.ops.append(Affine(name))
        self.tensors[f"{name}.affine"] = rows.astype(np.float32)

    def _reshape(self, steps: tuple[Step, ...]) -> None:
        """Append steps that need no numbers."""
        for step in steps:
            if step.kind in ("pool", "average"):
                self.ops.append(pool_op(step.module, step.name))
            elif step.kind == "flatten":
                self.ops.append(Flatten())
            elif step.kind == "relu":
                self.ops.append(Relu())


def lower(chain: Chain, cut: list[Segment], recorded: dict[fx.Node, Tensor]) -> tuple[
    Lowering, list[tuple[int, int]]
]:  # fmt: skip
    """Return the ops and tensors of all segments, and each segment's range of ops."""
    lowering = Lowering(recorded)
    ranges = [lowering.segment(segment) for segment in cut]
    return lowering, ranges


def _behind_last(steps: tuple[Step, ...], *kinds: str) -> int:
    """Return the place behind the last step of these kinds, 0 where there is none."""
    return max((i + 1 for i, step in enumerate(steps) if step.kind in kinds), default=0)


def _compose(tails: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def composed(x: Tensor) -> Tensor:
        for tail in tails:
            x = tail(x)
        return x

    return composed


def _check_pools_commute(head: Step | None, folded: tuple[Step, ...]) -> None:
    """Refuse a max-pool behind what may reverse the order, where a batch norm or ReLU follows."""
    falling = None
    if head is not None and bool((layer_terms(head.module)[0] < 0).any()):
        falling = f"{head.name} has a negative scale"
    for step in folded:
        if step.kind == "norm" and bool((norm_terms(step.module)[0] < 0).any()):
            falling = f"{step.name} has negative weights"
        if step.kind == "pool" and falling:
            raise PackError(
                f"{step.name} pools ahead of what becomes a threshold, and {falling}; put the "
                "pool behind the last batch norm and ReLU, or ahead of the negative factors"
            )


def _has_affine(module: nn.Module) -> bool:
    return bool(scales_of(module)) or module.bias is not None
