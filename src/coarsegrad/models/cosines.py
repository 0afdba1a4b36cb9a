"""A classifier by angles alone."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class Cosines(nn.Module):
    r"""The cosine of the angle between a feature and each class's vector: (N, d) to (N, classes).

    .. math:: \cos\theta_j = \frac{\langle w_j, x \rangle}{|w_j|\,|x|}

    The last layer of Wang et al. 2018 (CosFace), arXiv:1801.09414, eq. (3), without its scale s.

    The vectors start at random, but evenly around the circle if d = 2: classes that have to pass
    each other there train several times slower.

    Args:
        features: d.
        classes: how many vectors.

    >>> head = Cosines(2, 1)
    >>> _ = head.weight.data.copy_(torch.tensor([[3.0, 0.0]]))
    >>> head(torch.tensor([[0.0, 5.0], [-2.0, 0.0]])).data
    tensor([[ 0.],
            [-1.]])
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, features))
        if features == 2:
            angles = torch.arange(classes) * (2 * math.pi / classes)
            self.weight.data = torch.stack([angles.cos(), angles.sin()], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the cosines."""
        return F.linear(F.normalize(x), F.normalize(self.weight))

    def extra_repr(self) -> str:
        """Return the shape."""
        return f"features={self.weight.shape[1]}, classes={self.weight.shape[0]}"
