"""LeNet-5 with binary weights and activations: 6-16-120-84-10."""

from __future__ import annotations

from torch.nn import BatchNorm1d, BatchNorm2d, Flatten, MaxPool2d, Sequential

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity


def lenet5(ste: CoarseDerivative | None = None, *, float_ends: bool = False) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to (N, 10) logits.

    LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", fig. 2, as it is
    built today: max pools, batch norm before each sign, C3 on all maps of S2, a dense layer for
    the 84-unit Gaussian one. Images are padded to 32x32 by -1, the black of their background.
    61,470 weights, no bias, 472 parameters of batch norm.

    Args:
        ste: coarse derivative of the activations; hard tanh unless given.
        float_ends: float weights in the first layer and the last; the last has a bias then, and
            no batch norm behind it.

    >>> net = lenet5()
    >>> sum(p.numel() for p in net.parameters() if p.dim() > 1)
    61470
    >>> sum(p.numel() for p in net.parameters() if p.dim() == 1)
    472
    """
    activation = ClippedIdentity() if ste is None else ste

    def signs() -> Sign:
        return Sign(ste=activation)

    def weights() -> Sign:
        return Sign(ste=Identity())

    def end() -> Sign | None:
        return None if float_ends else weights()

    last = Linear(84, 10, bias=float_ends, input_quantizer=signs(), weight_quantizer=end())
    return Sequential(
        Conv2d(1, 6, 5, padding=2, bias=False, pad_value=-1, weight_quantizer=end()),
        MaxPool2d(2),
        BatchNorm2d(6),
        Conv2d(6, 16, 5, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        MaxPool2d(2),
        BatchNorm2d(16),
        Flatten(),
        Linear(400, 120, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        BatchNorm1d(120),
        Linear(120, 84, bias=False, input_quantizer=signs(), weight_quantizer=weights()),
        BatchNorm1d(84),
        last,
        *(() if float_ends else (BatchNorm1d(10),)),
    )
