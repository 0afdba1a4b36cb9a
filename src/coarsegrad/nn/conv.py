"""The 2-D convolution with quantized weights and inputs."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F

from coarsegrad.nn.latent import LatentWeight
from coarsegrad.quantizers import Quantizer

_Size = int | tuple[int, int]


@final
class Conv2d(LatentWeight, torch.nn.Conv2d):
    r"""``torch.nn.Conv2d`` on quantized operands: y = alpha (q_x(x) * q_w(W)) + b.

    Arguments, shapes and state_dict keys are torch's, and a learned scale's key is added: x is
    (N, C_in, H, W), y is (N, C_out, H', W'), in x's dtype.

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: size of the window.
        stride: step of the window.
        padding: cells added on each side, or ``"valid"``, ``"same"``.
        dilation: distance between the window's cells.
        groups: blocks of channels that do not mix.
        bias: whether to add a learned float bias.
        padding_mode: as in torch.
        pad_value: 0, +1 or -1: what the added cells hold *after* the input quantizer. 0 is
            torch's padding; with +-1 the padded input stays binary.
        input_quantizer: applied to x first, or None for a float input.
        weight_quantizer: applied to the latent weight, or None for a float weight.
        device: as in torch.
        dtype: as in torch.

    Raises:
        TypeError: a quantizer that is not one (a class instead of an instance, a string).
        ValueError: ``pad_value`` is not 0, 1 or -1 or meets another ``padding_mode`` than
            ``"zeros"``, or is not a level of the input quantizer (0 is torch's padding, and
            always allowed); an input quantizer that is for weights only, such as one with
            ``scale="channel"``; a scale learned for another number of channels.

    >>> from coarsegrad.quantizers import Sign
    >>> layer = Conv2d(3, 8, 3, padding=1, weight_quantizer=Sign(scale="channel"))
    >>> layer(torch.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        pad_value: float = 0,
        input_quantizer: Quantizer | None = None,
        weight_quantizer: Quantizer | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if pad_value not in (0, 1, -1) or (pad_value != 0 and padding_mode != "zeros"):
            raise ValueError(
                f"Conv2d needs pad_value 0, 1 or -1 (1 and -1 only with padding_mode='zeros'), "
                f"got pad_value={pad_value!r} with padding_mode={padding_mode!r}"
            )
        torch.nn.Conv2d.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            bias, padding_mode, device, dtype,
        )  # fmt: skip
        self.pad_value = float(pad_value)
        self._set_quantizers(input_quantizer, weight_quantizer)
        if (
            pad_value != 0
            and input_quantizer is not None
            and pad_value not in input_quantizer.levels
        ):
            raise ValueError(
                f"Conv2d needs pad_value 0 or a level of its input_quantizer, got {pad_value!r} "
                f"with the levels {input_quantizer.levels}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, shape (N, C_out, H', W')."""
        x, weight, scales = self._operands(x)
        weight = self._laid_out(weight)
        if not self._bias_after_sum:
            return self._convolve(x, weight, self.bias)
        y = self._convolve(x, weight, None)
        for scale in scales:
            y = y * _beside(y, scale.to(y.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype).reshape(-1, 1, 1)

    def _laid_out(self, weight: Tensor) -> Tensor:
        """Return the weight with the latent weight's strides.

        Elementwise kernels forget the stride of an axis of size 1, by which torch tells a
        one-channel channels_last weight from a contiguous one, and would leave channels_last.
        """
        if weight.shape[1] != 1 or weight.stride() == self.weight.stride():
            return weight
        rows, _, height, width = weight.shape
        return weight.flatten(1).view(rows, height, width, 1).permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.pad_value == 0 or self.padding in (0, (0, 0), "valid"):
            y: Tensor = self._conv_forward(x, weight, bias)
            return y
        x = F.pad(x, self._reversed_padding_repeated_twice, value=self.pad_value)
        return F.conv2d(x, weight, bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Return torch's text and what is quantized."""
        text: str = torch.nn.Conv2d.extra_repr(self)
        if self.pad_value:
            text += f", pad_value={self.pad_value:+.0f}"
        return self._describe(text)


def _beside(y: Tensor, scale: Tensor) -> Tensor:
    """Return a scale, 0-d or one a channel, so that it multiplies y (N, C, H, W).

    A few channels in channels_last make rows too short for vector instructions, 8 times as slow:
    the scale is repeated along W there, for the same products.
    """
    channels = y.shape[-3]
    few = scale.numel() > 1 and channels % 8 and y.dim() == 4 and y.stride(1) == 1
    if not few:
        return scale.reshape(-1, 1, 1)
    return scale.repeat(y.shape[3]).view(1, 1, y.shape[3], channels).permute(0, 3, 1, 2)
