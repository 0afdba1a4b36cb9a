"""ResNet-20 for CIFAR-10, with quantized activations."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import AdaptiveAvgPool2d, Flatten, Module, Sequential
from torch.nn import functional as F

from coarsegrad.models.layers import Layers
from coarsegrad.ste import CoarseDerivative


@final
class _Block(Module):
    """x -> shortcut(x) + conv(norm(conv(norm(x)))), each convolution behind an activation."""

    def __init__(self, layers: Layers, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.more = outputs - inputs
        self.body = Sequential(
            *layers.norm2d(inputs),
            layers.conv(inputs, outputs, 3, stride=stride, padding=1),
            *layers.norm2d(outputs),
            layers.conv(outputs, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        short = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
        if self.more:
            short = F.pad(short, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        y: Tensor = self.body(x)
        return y + short


def resnet20(
    ste: CoarseDerivative | None = None, width: int = 16, *, precision: str = "W32A4"
) -> Sequential:
    """Return the network: (N, 3, 32, 32) float32 pixels to (N, 10) logits.

    He et al. 2015, arXiv:1512.03385, sec. 4.2, n = 3: nine basic blocks of two 3x3 convolutions;
    shortcuts without parameters (option A: every second pixel, zeros for new channels). Long, Yin,
    Xin 2020, arXiv:2011.11256, sec. 8.3, train it with 4-bit activations, and a norm right before
    each: so norm and activation come before a convolution, not behind the sum of a block, as in He
    et al. 2016, arXiv:1603.05027. Shortcuts carry floats: it trains, and does not pack.

    Args:
        ste: coarse derivative of the activations; the ReLU unless given.
        width: channels of the first three blocks; the others have 2 and 4 times as many.
        precision: bits of weights and activations, as in ``quantizers.precision``.

    Raises:
        ValueError: another precision; ``ste`` where the activations are float.

    >>> sum(p.numel() for p in resnet20().parameters() if p.dim() > 1)
    268336
    """
    layers = Layers("resnet20", precision, ste)
    net: list[Module] = [layers.first(3, width, 3, padding=1)]
    channels = width
    for outputs in (width, 2 * width, 4 * width):
        for _ in range(3):
            stride = 2 if outputs > channels else 1
            net.append(_Block(layers, channels, outputs, stride))
            channels = outputs
    net += [*layers.norm2d(channels), *layers.activation(), AdaptiveAvgPool2d(1), Flatten()]
    return Sequential(*net, *layers.last(channels, 10, activated=True))
