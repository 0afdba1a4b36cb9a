"""VGG-Small, the CIFAR-10 network of the literature on binary networks."""

from __future__ import annotations

from torch.nn import BatchNorm1d, BatchNorm2d, Flatten, MaxPool2d, Module, Sequential

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity


def vgg_small(
    ste: CoarseDerivative | None = None, width: int = 128, *, float_ends: bool = True
) -> Sequential:
    """Return the network: (N, 3, 32, 32) float32 pixels to (N, 10) logits.

    2x128C3 - MP2 - 2x256C3 - MP2 - 2x512C3 - MP2 - FC10, batch norm and a sign between any two
    layers; Zhang et al. 2018, LQ-Nets, arXiv:1807.10029; Qin et al. 2020, IR-Net,
    arXiv:1909.10788, table 3. There, as here by default, the first and the last layer keep float
    weights. One difference: the last layer gets the signs of the last batch norm, where IR-Net
    gives it the hard tanh.

    Args:
        ste: coarse derivative of the activations; hard tanh unless given.
        width: channels of the first two layers; the others have twice and four times as many.
        float_ends: float weights in the first layer and the last, which then has a bias; if not,
            they are 1-bit, and batch norm follows the last.

    >>> net = vgg_small()
    >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
    4656512
    """
    activation = ClippedIdentity() if ste is None else ste

    def signs() -> Sign:
        return Sign(ste=activation)

    def weights() -> Sign:
        return Sign(ste=Identity())

    def binary(inputs: int, outputs: int, *between: Module) -> tuple[Module, ...]:
        conv = Conv2d(
            inputs,
            outputs,
            3,
            padding=1,
            bias=False,
            input_quantizer=signs(),
            weight_quantizer=weights(),
        )
        return (conv, *between, BatchNorm2d(outputs))

    def end() -> Sign | None:
        return None if float_ends else weights()

    return Sequential(
        Conv2d(3, width, 3, padding=1, bias=False, weight_quantizer=end()),
        BatchNorm2d(width),
        *binary(width, width, MaxPool2d(2)),
        *binary(width, 2 * width),
        *binary(2 * width, 2 * width, MaxPool2d(2)),
        *binary(2 * width, 4 * width),
        *binary(4 * width, 4 * width, MaxPool2d(2)),
        Flatten(),
        Linear(64 * width, 10, bias=float_ends, input_quantizer=signs(), weight_quantizer=end()),
        *(() if float_ends else (BatchNorm1d(10),)),
    )
