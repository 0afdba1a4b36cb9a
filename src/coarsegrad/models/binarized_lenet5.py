"""LeNet-5 with float weights and binarized ReLUs, 1{x > 0}."""

from __future__ import annotations

from torch.nn import BatchNorm1d, BatchNorm2d, Flatten, MaxPool2d, Module, Sequential

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Heaviside
from coarsegrad.ste import CoarseDerivative, ReLU


def binarized_lenet5(ste: CoarseDerivative | None = None, *, norm: bool = True) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to (N, 10) logits.

    The variation of LeNet that Dinh and Xin 2020, "Convergence of a Relaxed Variable Splitting
    Coarse Gradient Descent Method", sec. 6, train and prune: widths 6-16-120-84, convolution, max
    pool, and 1{x > 0} in place of every ReLU. The paper mentions no batch norm; without it the
    network does not learn at the paper's rates. Images are padded to 32x32 by -1, the black of
    their background.

    Args:
        ste: coarse derivative of the activations; the ReLU, as in the paper, unless given.
        norm: batch norm before each activation, and no biases but the last layer's.

    >>> import torch
    >>> net = binarized_lenet5(norm=False)
    >>> net(torch.zeros(2, 1, 28, 28)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 61706)
    """
    coarse = ReLU() if ste is None else ste

    def norms(layer: type[BatchNorm1d | BatchNorm2d], channels: int) -> list[Module]:
        return [layer(channels)] if norm else []

    def dense(inputs: int, outputs: int, *, bias: bool = not norm) -> Linear:
        return Linear(inputs, outputs, bias=bias, input_quantizer=Heaviside(ste=coarse))

    return Sequential(
        Conv2d(1, 6, 5, padding=2, bias=not norm, pad_value=-1),
        MaxPool2d(2),
        *norms(BatchNorm2d, 6),
        Conv2d(6, 16, 5, bias=not norm, input_quantizer=Heaviside(ste=coarse)),
        MaxPool2d(2),
        *norms(BatchNorm2d, 16),
        Flatten(),
        dense(400, 120),
        *norms(BatchNorm1d, 120),
        dense(120, 84),
        *norms(BatchNorm1d, 84),
        dense(84, 10, bias=True),
    )
