"""Batch norm without affine parameters."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class NormalizedBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    r"""Batch norm without gamma and beta, so that each channel leaves it with mean 0, variance 1.

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \varepsilon}}

    The "modified batch normalization" of Long, Yin, Xin 2020, arXiv:2011.11256, sec. 8.2, after
    HWGQ (Cai et al. 2017, arXiv:1702.00953): a quantized ReLU behind it keeps the step that is best
    for N(0, 1) through the whole training, see ``quantizers.half_gaussian_step``.

    Takes (N, C), (N, C, L) and (N, C, H, W); otherwise as ``torch.nn.BatchNorm2d(affine=False)``,
    whose state_dict it has.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: of the running statistics; None is their plain average.
        device: as in torch.
        dtype: as in torch.

    Raises:
        ValueError: an input of another number of dimensions, or training on one value per channel.

    >>> _ = torch.manual_seed(0)
    >>> y = NormalizedBatchNorm(3)(5 + 2 * torch.randn(1000, 3))
    >>> y.mean(0).abs().max() < 1e-5, (y.std(0) - 1).abs().max() < 1e-2
    (tensor(True), tensor(True))
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine=False, device=device, dtype=dtype)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        if input.dim() not in (2, 3, 4):
            raise ValueError(
                "NormalizedBatchNorm needs (N, C), (N, C, L) or (N, C, H, W), got "
                f"{input.dim()} dimensions"
            )

    def extra_repr(self) -> str:
        """Return the arguments."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
