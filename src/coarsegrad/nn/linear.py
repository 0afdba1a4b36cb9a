"""The fully connected layer with quantized weights and inputs."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from coarsegrad.nn.latent import LatentWeight
from coarsegrad.quantizers import Quantizer


@final
class Linear(LatentWeight, torch.nn.Linear):
    r"""``torch.nn.Linear`` on quantized operands: y = alpha (q_x(x) q_w(W)^T) + b.

    Arguments, shapes and state_dict keys are torch's, and a learned scale's key is added: x is
    (..., in_features), y is (..., out_features), in x's dtype.

    Args:
        in_features: size of each input sample.
        out_features: size of each output sample.
        bias: whether to add a learned float bias.
        input_quantizer: applied to x first, or None for a float input.
        weight_quantizer: applied to the latent weight, or None for a float weight.
        device: as in torch.
        dtype: as in torch.

    Raises:
        TypeError: a quantizer that is not one (a class instead of an instance, a string).
        ValueError: an input quantizer that is for weights only, such as one with
            ``scale="channel"``; a scale learned for another number of channels.

    >>> from coarsegrad.quantizers import Sign
    >>> Linear(4, 2, bias=False, weight_quantizer=Sign())
    Linear(
      in_features=4, out_features=2, bias=False, 1-bit weights (latent float32)
      (weight_quantizer): Sign(ste=Identity(), scale='none')
    )
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        input_quantizer: Quantizer | None = None,
        weight_quantizer: Quantizer | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        torch.nn.Linear.__init__(self, in_features, out_features, bias, device, dtype)
        self._set_quantizers(input_quantizer, weight_quantizer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, shape (..., out_features)."""
        x, weight, scales = self._operands(x)
        if not self._bias_after_sum:
            return torch.nn.functional.linear(x, weight, self.bias)
        y = torch.nn.functional.linear(x, weight)
        for scale in scales:
            y = y * scale.to(y.dtype)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        """Return torch's text and what is quantized."""
        return self._describe(torch.nn.Linear.extra_repr(self))
