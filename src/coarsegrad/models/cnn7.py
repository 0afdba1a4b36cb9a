"""A convolutional network of seven layers with features in the plane, for looking at."""

from __future__ import annotations

from torch.nn import Flatten, MaxPool2d, Module, Sequential

from coarsegrad.models.cosines import Cosines
from coarsegrad.models.layers import Layers
from coarsegrad.nn import NormalizedBatchNorm
from coarsegrad.ste import CoarseDerivative


def cnn7(
    ste: CoarseDerivative | None = None, width: int = 32, *, precision: str = "W32A4"
) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to the (N, 10) cosines of its classes.

    Six 3x3 convolutions, two before each max pool, and a dense layer with two outputs. A norm
    centers them, for activations are never negative and all classes would start in one direction;
    these are the features: ``net[:-1](x)``, (N, 2) floats. ``Cosines`` compares them with a
    direction for each class; train it with CosFace. Long, Yin, Xin 2020, arXiv:2011.11256, fig. 5,
    draw such features of a seven-layer network of Wang et al. 2018, arXiv:1801.09414; neither says
    more of it. This plan is that of Wen et al. 2016, "A Discriminative Feature Learning Approach
    for Deep Face Recognition", sec. 3.2, with 3x3 windows.

    Args:
        ste: coarse derivative of the activations; the ReLU unless given.
        width: channels of the first two layers; the others have 2 and 4 times as many.
        precision: bits of weights and activations, as in ``quantizers.precision``.

    Raises:
        ValueError: another precision; ``ste`` where the activations are float.

    >>> import torch
    >>> net = cnn7(width=4)
    >>> net(torch.zeros(5, 1, 28, 28)).shape, net[:-1](torch.zeros(5, 1, 28, 28)).shape
    (torch.Size([5, 10]), torch.Size([5, 2]))
    """
    layers = Layers("cnn7", precision, ste)
    net: list[Module] = []
    channels = 1
    for outputs in (width, 2 * width, 4 * width):
        make = layers.conv if net else layers.first
        net += [make(channels, outputs, 3, padding=1), *layers.norm2d(outputs)]
        net += [layers.conv(outputs, outputs, 3, padding=1), MaxPool2d(2), *layers.norm2d(outputs)]
        channels = outputs
    plane = layers.linear(3 * 3 * channels, 2)
    return Sequential(*net, Flatten(), plane, NormalizedBatchNorm(2), Cosines(2, 10))
