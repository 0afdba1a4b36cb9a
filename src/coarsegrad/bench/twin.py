"""The float twin: the network one would run without coarsegrad, of the same shape.

The same convolutions, dense layers and pools with float32 weights; ReLU where the packed network
has a sign or a ReLU; batch norm fused into biases. Its weights are the packed file's, which matters
to nobody: only its speed is looked at.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from coarsegrad.packed import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Op,
    Program,
    Relu,
    Sign,
    Threshold,
    unpack_weights,
)


def float_twin(program: Program) -> nn.Sequential:
    """Return the float32 network of ``program``'s shape, in evaluation mode.

    >>> from coarsegrad.packed import Program, Sign
    >>> float_twin(Program((4,), (Sign(),), {}))
    Sequential(
      (0_sign): ReLU()
    )
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, op in enumerate(program.ops):
        modules.update((f"{i}_{name}", module) for name, module in _twin(op, program))
    return nn.Sequential(modules).eval().requires_grad_(False)


def _twin(op: Op, program: Program) -> list[tuple[str, nn.Module]]:
    match op:
        case Conv():
            return _convolution(op, program)
        case Linear():
            dense = nn.Linear(op.shape[1], op.shape[0])
            dense.weight.data = _weight(op, program)
            return [("linear", dense)]
        case Threshold() | Sign() | Relu():
            return [(op.op, nn.ReLU())]
        case MaxPool():
            return [("maxpool", nn.MaxPool2d(op.size, op.step, op.padding, op.dilation))]
        case AvgPool():
            return [("avgpool", nn.AvgPool2d(op.size, op.step, op.padding))]
        case Flatten():
            return [("flatten", nn.Flatten())]
        case Affine() | Levels():
            return []  # fused into the layer's bias, as batch norm is; a ReLU needs no table


def _convolution(op: Conv, program: Program) -> list[tuple[str, nn.Module]]:
    out, per_group, height, width = op.shape
    top, left, bottom, right = op.padding
    even = (top, left) == (bottom, right)
    conv = nn.Conv2d(
        per_group * op.groups, out, (height, width), op.stride, (top, left) if even else 0,
        op.dilation, op.groups,
    )  # fmt: skip
    conv.weight.data = _weight(op, program)
    pad = [] if even else [("pad", nn.ZeroPad2d((left, right, top, bottom)))]
    return [*pad, ("conv", conv)]


def _weight(op: Conv | Linear, program: Program) -> torch.Tensor:
    # Scaled to keep activations near 1: denormals and infinities would be timed otherwise.
    fan_in = math.prod(op.shape[1:])
    return torch.from_numpy(unpack_weights(op, program.tensors).copy()) / math.sqrt(fan_in)
