"""LeNet-5 in two widths, with activations and weights of 1 to 8 bits or float."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from torch.nn import Flatten, MaxPool2d, Module, Sequential

from coarsegrad.errors import nearest
from coarsegrad.models.layers import Layers
from coarsegrad.ste import CoarseDerivative

LeNetLayout = Literal["6-16-120-84", "20-50-500"]
"""The widths of LeNet-5's hidden layers; ``lenet5`` says where each comes from."""


class _Layout(NamedTuple):
    maps: tuple[int, int]
    padding: int
    dense: tuple[int, ...]  # the flattened maps, then the hidden layers


_LAYOUTS = {
    "6-16-120-84": _Layout((6, 16), 2, (400, 120, 84)),
    "20-50-500": _Layout((20, 50), 0, (800, 500)),
}


def lenet5(
    ste: CoarseDerivative | None = None,
    *,
    precision: str = "W1A1",
    layout: LeNetLayout = "6-16-120-84",
    float_ends: bool = False,
) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to (N, 10) logits.

    =============  ==============================================================  ===========
    ``layout``     from                                                            weights
    =============  ==============================================================  ===========
    6-16-120-84    LeCun et al. 1998, "Gradient-Based Learning Applied to          61,470
                   Document Recognition", fig. 2, as it is built today: max pools,
                   C3 on all maps of S2, a dense layer for the 84-unit Gaussian
                   one. Images are padded to 32x32 by -1, the black of their
                   background.
    20-50-500      the ``lenet.prototxt`` of Caffe (Jia et al. 2014,               430,500
                   arXiv:1408.5093), which papers on quantization call LeNet-5;
                   nothing is padded.
    =============  ==============================================================  ===========

    Convolution, max pool, norm, and the activation in the next layer. The norm before a quantized
    ReLU, from 2 bits on, has no parameters (``nn.NormalizedBatchNorm``). No layer has a bias, but
    the last one if its weights are float; otherwise batch norm follows it.

    Args:
        ste: coarse derivative of the activations; hard tanh for signs and the ReLU for quantized
            ReLUs unless given.
        precision: bits of weights and activations, such as ``"W1A2"`` or ``"W32A4"``, as in
            ``quantizers.precision``. A32 has plain ReLUs and no use for an ``ste``.
        layout: the widths.
        float_ends: float weights in the first layer and the last.

    Raises:
        ValueError: another precision or layout; ``float_ends`` where all weights are float, or
            ``ste`` where all activations are.

    >>> net = lenet5()
    >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
    61470
    >>> sum(p.numel() for p in net.parameters() if p.dim() == 1)
    472
    >>> lenet5(precision="W32A2", layout="20-50-500")[3].input_quantizer
    QuantReLU(bits=2, step=0.48657, ste=ReLU(), levels='ceil')
    """
    if layout not in _LAYOUTS:
        allowed = get_args(LeNetLayout)
        raise ValueError(
            f"lenet5 needs layout to be one of {', '.join(allowed)}, got {layout!r}."
            + nearest(str(layout), allowed)
        )
    layers = Layers("lenet5", precision, ste, float_ends=float_ends)
    (first, second), padding, dense = _LAYOUTS[layout]
    # Made first, as ever: a seed keeps its initial weights.
    last = layers.last(dense[-1], 10)
    hidden: list[Module] = []
    pad_value = -1 if padding else 0
    convolutions = [
        layers.first(1, first, 5, padding=padding, pad_value=pad_value),
        MaxPool2d(2),
        *layers.norm2d(first),
        layers.conv(first, second, 5),
        MaxPool2d(2),
        *layers.norm2d(second),
        Flatten(),
    ]
    for inputs, outputs in pairwise(dense):
        hidden += [layers.linear(inputs, outputs), *layers.norm1d(outputs)]
    return Sequential(*convolutions, *hidden, *last)
