"""The binary MNIST network of Larq's tutorial: 93,088 one-bit and 468 float parameters."""

from __future__ import annotations

from torch.nn import BatchNorm1d, BatchNorm2d, Flatten, MaxPool2d, Sequential

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity


def small_cnn(ste: CoarseDerivative | None = None) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to (N, 10) logits.

    Pixels k = 0..255 enter as (k - 128) / 128, so that the first layer's sums are exact in
    float32. All weights are 1-bit, no layer has a bias; 13.19 KiB counted as Larq counts
    (https://docs.larq.dev/larq/tutorials/mnist/).

    Args:
        ste: coarse derivative of the activations; hard tanh unless given.

    >>> net = small_cnn()
    >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
    93088
    >>> sum(p.numel() for p in net.parameters() if p.dim() == 1)
    468
    """
    activation = ClippedIdentity() if ste is None else ste

    def signs() -> Sign:
        return Sign(ste=activation)

    def weights() -> Sign:
        return Sign(ste=Identity())

    return Sequential(
        Conv2d(1, 32, 3, bias=False, weight_quantizer=weights()),
        MaxPool2d(2),
        BatchNorm2d(32),
        Conv2d(32, 64, 3, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        MaxPool2d(2),
        BatchNorm2d(64),
        Conv2d(64, 64, 3, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        BatchNorm2d(64),
        Flatten(),
        Linear(576, 64, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        BatchNorm1d(64),
        Linear(64, 10, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        BatchNorm1d(10),
    )
