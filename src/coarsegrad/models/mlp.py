"""A binary multi-layer perceptron, 784-256-256-10."""

from __future__ import annotations

from torch.nn import BatchNorm1d, Flatten, Sequential

from coarsegrad.nn import Linear
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity


def mlp(ste: CoarseDerivative | None = None, width: int = 256) -> Sequential:
    """Return the network: (N, 1, 28, 28) float32 pixels to (N, 10) logits.

    Three dense layers with 1-bit weights and no bias, each followed by batch norm.

    Args:
        ste: coarse derivative of the activations; hard tanh unless given.
        width: units of each hidden layer.

    >>> sum(p.numel() for p in mlp().parameters() if p.dim() > 1) == 784*256 + 256*256 + 256*10
    True
    """
    activation = ClippedIdentity() if ste is None else ste

    def binary(inputs: int, outputs: int) -> Linear:
        return Linear(
            inputs,
            outputs,
            bias=False,
            input_quantizer=Sign(ste=activation),
            weight_quantizer=Sign(ste=Identity()),
        )

    return Sequential(
        Flatten(),
        Linear(784, width, bias=False, weight_quantizer=Sign(ste=Identity())),
        BatchNorm1d(width),
        binary(width, width),
        BatchNorm1d(width),
        binary(width, 10),
        BatchNorm1d(10),
    )
