"""The perceptron (1)-(2), the oldest coarse gradient: sign'(x) replaced by 1."""

from __future__ import annotations

from torch import Tensor

from coarsegrad.quantizers import binary_sign


def perceptron_loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return sum over i of (sign(<x_i, w>) - y_i)^2, equation (1): 4 times the errors.

    Args:
        w: weights (d,).
        x: samples (N, d).
        y: labels -1 or 1, (N,).
    """
    return ((binary_sign(x @ w) - y) ** 2).sum()


def perceptron_step(w: Tensor, x: Tensor, y: Tensor, eta: float = 1.0) -> Tensor:
    """Return w - eta sum over i of (sign(<x_i, w>) - y_i) x_i, equation (2).

    The factor 2 of the square's derivative is absorbed in eta. On separable samples it ends at
    zero errors. Rosenblatt 1957; Long, Yin, Xin 2020, arXiv:2011.11256, eq. (2).

    >>> import torch
    >>> x, y = torch.tensor([[1.0, 0.0], [-1.0, 0.5]]), torch.tensor([-1.0, 1.0])
    >>> w = perceptron_step(torch.tensor([1.0, 0.0]), x, y, eta=0.5)
    >>> w.tolist(), perceptron_loss(w, x, y).item()
    ([-1.0, 0.5], 0.0)
    """
    return w - eta * ((binary_sign(x @ w) - y) @ x)
