"""Training steps of LeNet-5 and ResNet-20 in Brevitas's layers, for `make bench-train`.

Runs in an environment that has Brevitas and torch, not coarsegrad: NET PRECISION BATCH C H W. It
takes one step for each line on its standard input and answers each with a line. The networks are
those of ``coarsegrad.models``: convolution, max pool, batch norm, activation; no biases; W1A1 has
Brevitas's own signs, W4A4 its default integer weights per tensor and its quantized ReLU.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import brevitas.nn as qnn
import torch
from brevitas.quant import (
    Int8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from torch import Tensor, nn
from torch.nn import functional as F


class Layers:
    """Brevitas's layers at W1A1 or W4A4."""

    def __init__(self, precision: str) -> None:
        self.binary = precision == "W1A1"
        weight = SignedBinaryWeightPerTensorConst if self.binary else Int8WeightPerTensorFloat
        self.weights = {"weight_quant": weight, "bias": False}
        if not self.binary:
            self.weights["weight_bit_width"] = 4

    def conv(self, inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0):
        """Return a convolution without bias."""
        return qnn.QuantConv2d(inputs, outputs, size, stride, padding, **self.weights)

    def linear(self, inputs: int, outputs: int):
        """Return a dense layer without bias."""
        return qnn.QuantLinear(inputs, outputs, **self.weights)

    def activation(self):
        """Return what stands before each layer but the first."""
        if self.binary:
            return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)
        return qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=4)


def lenet5(layers: Layers) -> nn.Module:
    a = layers.activation
    return nn.Sequential(
        layers.conv(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(6), a(),
        layers.conv(6, 16, 5), nn.MaxPool2d(2), nn.BatchNorm2d(16), a(), nn.Flatten(),
        layers.linear(400, 120), nn.BatchNorm1d(120), a(),
        layers.linear(120, 84), nn.BatchNorm1d(84), a(),
        layers.linear(84, 10), nn.BatchNorm1d(10),
    )  # fmt: skip


class Block(nn.Module):
    """Two convolutions and a shortcut that pads channels."""

    def __init__(self, layers: Layers, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first_in, self.second_in = layers.activation(), layers.activation()
        self.first = layers.conv(inputs, outputs, 3, stride, 1)
        self.second = layers.conv(outputs, outputs, 3, 1, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways."""
        y = self.norms[0](self.first(self.first_in(x)))
        y = self.norms[1](self.second(self.second_in(y)))
        if self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return x + y


def resnet20(layers: Layers) -> nn.Module:
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Block(layers, i, o, 2 if o > i else 1) for i, o in pairwise(widths)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), *blocks,
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def main() -> None:
    """Take a step for each line."""
    name, precision, *sizes = sys.argv[1:]
    batch, *shape = map(int, sizes)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make = {"lenet5": lenet5, "resnet20": resnet20}[name]
    net = make(Layers(precision)).to(memory_format=torch.channels_last)
    x = torch.rand(batch, *shape).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    print("ready", flush=True)
    for _ in sys.stdin:
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        print("done", flush=True)


if __name__ == "__main__":
    main()
