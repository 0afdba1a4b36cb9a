"""VGG-11 for CIFAR-10, with quantized activations."""

from __future__ import annotations

from torch.nn import Flatten, MaxPool2d, Module, Sequential

from coarsegrad.models.layers import Layers
from coarsegrad.ste import CoarseDerivative

# Channels over ``width`` of each convolution; 0 is a max pool behind the one before it.
_PLAN = (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)


def vgg11(
    ste: CoarseDerivative | None = None, width: int = 64, *, precision: str = "W32A4"
) -> Sequential:
    """Return the network: (N, 3, 32, 32) float32 pixels to (N, 10) logits.

    Simonyan and Zisserman 2015, arXiv:1409.1556, table 1, column A, with one dense layer, as it is
    built for CIFAR-10; Long, Yin, Xin 2020, arXiv:2011.11256, sec. 8.3, train it with 4-bit
    activations. Eight 3x3 convolutions and five max pools; convolution, pool, norm, and the
    activation in the next layer. No layer has a bias, but the last one if its weights are float.

    Args:
        ste: coarse derivative of the activations; the ReLU unless given.
        width: channels of the first layer; the others have 2, 4 and 8 times as many.
        precision: bits of weights and activations, as in ``quantizers.precision``.

    Raises:
        ValueError: another precision; ``ste`` where the activations are float.

    >>> net = vgg11()
    >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
    9222848
    >>> net[3].input_quantizer
    QuantReLU(bits=4, step=0.166641, ste=ReLU(), levels='ceil')
    """
    layers = Layers("vgg11", precision, ste)
    net: list[Module] = []
    channels = 3
    for i, times in enumerate(_PLAN):
        if times:
            outputs = times * width
            make = layers.conv if net else layers.first
            net.append(make(channels, outputs, 3, padding=1))
            pool = [] if _PLAN[i + 1] else [MaxPool2d(2)]
            net += [*pool, *layers.norm2d(outputs)]
            channels = outputs
    return Sequential(*net, Flatten(), *layers.last(channels, 10))
