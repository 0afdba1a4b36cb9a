"""The large margin cosine loss."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

SCALE, MARGIN = 30.0, 0.1


def cosface(cosines: Tensor, y: Tensor, scale: float = SCALE, margin: float = MARGIN) -> Tensor:
    r"""Return the mean loss of a batch, of cosines (N, classes) and labels (N,): a number, 0-d.

    .. math:: -\log \frac{e^{s(\cos\theta_y - m)}}
        {e^{s(\cos\theta_y - m)} + \sum_{j \ne y} e^{s\cos\theta_j}}

    Wang et al. 2018, arXiv:1801.09414, eq. (4). In two dimensions C classes leave a margin of at
    most 1 - cos(2 pi / C), 0.19 for ten, ibid. sec. 3.4.

    Args:
        cosines: what ``models.Cosines`` gives.
        y: labels.
        scale: s > 0.
        margin: m in [0, 1).

    Raises:
        ValueError: ``scale`` or ``margin`` out of range.

    >>> import torch
    >>> cosface(torch.tensor([[1.0, 1.0]]), torch.tensor([0]), scale=10, margin=0.0)
    tensor(0.6931)
    """
    if not (0 < scale < math.inf and 0 <= margin < 1):
        raise ValueError(
            f"cosface needs a finite scale > 0 and a margin in [0, 1), got {scale!r} and "
            f"{margin!r}; for ten classes in the plane: {SCALE} and {MARGIN}"
        )
    right = F.one_hot(y, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * (cosines - margin * right), y)
