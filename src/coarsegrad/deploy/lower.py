"""Lowering: segments of a captured model become the ops and tensors of a packed program."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from coarsegrad.deploy.capture import Chain, Step
from coarsegrad.deploy.fold import float_thresholds, integer_thresholds
from coarsegrad.deploy.segments import Segment, affine_of, scales_of
from coarsegrad.errors import PackError
from coarsegrad.nn import Conv2d, LatentWeight
from coarsegrad.packed import Affine, Conv, Flatten, Linear, MaxPool, Op, Sign, Threshold, pack_bits


@dataclass
class Lowering:
    """Ops and tensors collected so far; ``recorded`` gives the shape of every node's value."""

    recorded: dict[fx.Node, Tensor]
    ops: list[Op] = field(default_factory=list)
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)

    def segment(self, segment: Segment) -> tuple[int, int]:
        """Append one segment; return the range of its ops."""
        start = len(self.ops)
        if segment.head is not None:
            self.ops.append(self._head(segment.head, segment.source))
        if segment.signed:
            self._to_bits(segment)
        else:
            self._to_floats(segment)
        return start, len(self.ops)

    def _head(self, head: Step, source: fx.Node) -> Op:
        module = head.module
        weight = _weight(module)
        if isinstance(module, LatentWeight) and module.weight_quantizer is not None:
            levels = tuple(module.weight_quantizer.levels)
            if levels != (-1.0, 1.0):
                raise PackError(
                    f"{head.name} has weights of the levels {levels}; packed weights need (-1, 1) "
                    "or float"
                )
            self.tensors[f"{head.name}.weight"] = pack_bits(module.weight_binary.numpy())
        else:
            self.tensors[f"{head.name}.weight"] = weight.numpy().copy()
        if isinstance(module, nn.Conv2d):
            return _conv(module, head.name)
        rank = self.recorded[source].dim()
        if rank != 2:
            raise PackError(
                f"{head.name} is a dense layer on {rank - 1}-dimensional samples; flatten first"
            )
        return Linear(head.name, (int(weight.shape[0]), int(weight.shape[1])))

    def _to_bits(self, segment: Segment) -> None:
        """Pools and a flattening that a batch norm follows, the threshold, then the rest.

        A maximum may move ahead of a non-decreasing function, and a sign ahead of a maximum.
        """
        steps = segment.before
        last_norm = max((i for i, step in enumerate(steps) if step.kind == "norm"), default=-1)
        folded, rest = steps[: last_norm + 1], steps[last_norm + 1 :]
        if segment.head is None and not folded:
            self._reshape(rest)
            self.ops.append(Sign())
        else:
            _check_pools_commute(segment.head, folded)
            self._reshape(folded)
            self._threshold(segment, folded)
            self._reshape(rest)
        self._reshape(segment.after)

    def _threshold(self, segment: Segment, folded: tuple[Step, ...]) -> None:
        head = segment.head
        tails = [] if head is None else [affine_of(head.module)]
        for step in folded:
            if step.kind in ("norm", "flatten"):
                tails.append(step.module)
        name = folded[0].name if head is None else head.name
        shape = self._trial_shape(segment, folded)
        if self._is_exact(segment):
            assert head is not None
            largest = math.prod(_weight(head.module).shape[1:])
            found = integer_thresholds(_compose(tails), shape, largest, name)
        else:
            found = float_thresholds(_compose(tails), shape)
        self.ops.append(Threshold(name))
        self.tensors[f"{name}.threshold"] = found.t
        if found.flip.any():
            self.tensors[f"{name}.flip"] = np.packbits(found.flip, bitorder="little")

    def _is_exact(self, segment: Segment) -> bool:
        """Whether the sums are integers: bits times bits."""
        head = segment.head
        return (
            head is not None
            and segment.fed_by_bits
            and self.tensors[f"{head.name}.weight"].dtype == np.uint8
        )

    def _trial_shape(self, segment: Segment, folded: tuple[Step, ...]) -> tuple[int, ...]:
        flat = next((i for i, step in enumerate(folded) if step.kind == "flatten"), None)
        if flat is not None:
            node = folded[flat - 1].node if flat else None
            if node is None:
                node = segment.head.node if segment.head else segment.source
            return tuple(self.recorded[node].shape[1:])
        node = segment.head.node if segment.head else segment.source
        channels, *sizes = self.recorded[node].shape[1:]
        return (channels, *(1 for _ in sizes))

    def _to_floats(self, segment: Segment) -> None:
        """In torch's order; each run of scale, bias and batch norms becomes one a * s + b."""
        steps = list(segment.before)
        head = segment.head
        if head is not None and _has_affine(head.module):
            self._affine([head, *itertools.takewhile(lambda step: step.kind == "norm", steps)])
            steps = list(itertools.dropwhile(lambda step: step.kind == "norm", steps))
        for kind, group in itertools.groupby(steps, lambda step: step.kind):
            if kind == "norm":
                self._affine(list(group))
            else:
                self._reshape(tuple(group))

    def _affine(self, steps: list[Step]) -> None:
        a, b = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for step in steps:
            scale, shift = _scale_and_shift(step.module)
            a, b = a * scale, b * scale + shift
        name = steps[0].name
        self.ops.append(Affine(name))
        self.tensors[f"{name}.affine"] = torch.stack([a, b]).float().numpy()

    def _reshape(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            if step.kind == "pool":
                self.ops.append(_maxpool(step.module, step.name))
            elif step.kind == "flatten":
                self.ops.append(Flatten())


def lower(chain: Chain, cut: list[Segment], recorded: dict[fx.Node, Tensor]) -> tuple[
    Lowering, list[tuple[int, int]]
]:  # fmt: skip
    """Return the ops and tensors of all segments, and each segment's range of ops."""
    lowering = Lowering(recorded)
    ranges = [lowering.segment(segment) for segment in cut]
    return lowering, ranges


def _compose(tails: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def composed(x: Tensor) -> Tensor:
        for tail in tails:
            x = tail(x)
        return x

    return composed


def _weight(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor)
    return module.weight.detach()


def _conv(module: nn.Conv2d, name: str) -> Conv:
    if module.padding_mode != "zeros":
        raise PackError(
            f"{name} pads by {module.padding_mode!r}; packed convolutions pad with 0, 1 or -1: "
            "use padding_mode='zeros' and pad_value"
        )
    left, right, top, bottom = module._reversed_padding_repeated_twice
    out, per_group, height, width = module.weight.shape
    return Conv(
        name,
        (out, per_group, height, width),
        stride=_pair(module.stride),
        padding=(top, left, bottom, right),
        dilation=_pair(module.dilation),
        groups=module.groups,
        pad=int(module.pad_value) if isinstance(module, Conv2d) else 0,
    )


def _maxpool(module: nn.Module, name: str) -> MaxPool:
    assert isinstance(module, nn.MaxPool2d)
    if module.ceil_mode or module.return_indices:
        raise PackError(f"{name} has ceil_mode or return_indices, which have no packed form")
    size = _pair(module.kernel_size)
    stride = _pair(module.stride)
    return MaxPool(
        size, None if stride == size else stride, _pair(module.padding), _pair(module.dilation)
    )


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def _check_pools_commute(head: Step | None, folded: tuple[Step, ...]) -> None:
    """Refuse a max-pool behind what may reverse the order, a batch norm following."""
    pools = [step.name for step in folded if step.kind == "pool"]
    if pools and head is not None and _reverses(head.module):
        raise PackError(
            f"{pools[0]} pools the sums of {head.name}, which has a negative learned scale, ahead "
            "of a batch norm; put the pool behind the batch norm"
        )
    falling = None
    for step in folded:
        if step.kind == "norm" and step.module.weight is not None:
            slopes = step.module.weight
            assert isinstance(slopes, Tensor)
            falling = step.name if bool((slopes < 0).any()) else falling
        if step.kind == "pool" and falling:
            raise PackError(
                f"{step.name} pools between two batch norms, and {falling} has negative weights; "
                "put the pool before both, or drop one batch norm"
            )


def _reverses(module: nn.Module) -> bool:
    """Whether a layer's scales turn the order of a channel's sums around."""
    product = torch.ones(1)
    for scale in scales_of(module):
        product = product * scale.sign()
    return bool((product < 0).any())


def _has_affine(module: nn.Module) -> bool:
    return bool(scales_of(module)) or module.bias is not None


def _scale_and_shift(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return float64 (a, b) of a layer's scale and bias, or of a batch norm."""
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        assert module.running_var is not None
        assert module.running_mean is not None
        a = (module.running_var.double() + module.eps).rsqrt()
        a = a if module.weight is None else a * module.weight.detach().double()
        b = -module.running_mean.double() * a
        return a, b if module.bias is None else b + module.bias.detach().double()
    tail = affine_of(module)
    zero = torch.zeros(1, _weight(module).shape[0], dtype=torch.float64)
    shift = tail(zero)[0]
    return tail(zero + 1)[0] - shift, shift
