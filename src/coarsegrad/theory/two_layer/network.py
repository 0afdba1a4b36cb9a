r"""The two-linear-layer network with a fixed second layer, and its coarse gradient.

Long, Yin, Xin 2020, arXiv:2011.11256, sections 2.2 and 2.3. Weights stand as rows, W of shape
(..., k, d), where the paper has columns; leading dimensions are independent networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from coarsegrad.ste import CoarseDerivative, ReLU


def quantized_relu(h: Tensor, bits: int) -> Tensor:
    r"""Return the quantized ReLU of unit step (section 2.2); sigma(0) = 0.

    .. math:: \sigma(h) = \min(\max(\lceil h \rceil, 0), 2^b - 1)

    A positive number of round-off size counts as 1; the data of this room have exact zeros where
    the formulas have them, see ``circle``.

    >>> quantized_relu(torch.tensor([-1.0, 0.0, 0.2, 1.0, 9.0]), bits=2)
    tensor([0., 0., 1., 1., 3.])
    """
    return h.clamp(0, 2**bits - 1).ceil()


def block_readout(n: int, k: int, value: float = 0.5) -> Tensor:
    """Return the V of section 8.1, (n, k): v_ij = value in the i-th of n blocks of units, else 0.

    Raises:
        ValueError: the units do not divide among the classes.

    >>> block_readout(2, 4).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    if n < 1 or k < n or k % n:
        raise ValueError(f"block_readout needs k a multiple of n >= 1, got n = {n}, k = {k}")
    return torch.eye(n, dtype=torch.float64).repeat_interleave(k // n, 1) * value


@final
@dataclass(frozen=True)
class TwoLayer:
    r"""The network, its hinge loss (5) and its coarse gradient (7).

    .. math:: o_i = \sum_j v_{i,j}\, \sigma(\langle w_j, x \rangle), \qquad
              l = \max(0, 1 - (o_y - \max_{i \ne y} o_i))

    Args:
        v: V of shape (n, k), float64, n >= 2; it is not trained.
        bits: b of the activation, 1 to 8.
        ste: the coarse derivative g'; one without a q_b of its own takes 2^b - 1.

    Raises:
        ValueError: ``v`` is not a finite float64 matrix of 2 or more rows, ``bits`` is outside
            1..8, or ``ste`` was made for another q_b.

    >>> net = TwoLayer(block_readout(2, 2), bits=2)
    >>> w = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    >>> x, y = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64), torch.tensor([0, 1])
    >>> net.losses(w, x, y).tolist()
    [0.0, 0.0]
    """

    v: Tensor
    bits: int = 4
    ste: CoarseDerivative = field(default_factory=ReLU)

    def __post_init__(self) -> None:
        v = self.v
        if v.ndim != 2 or v.shape[0] < 2 or v.dtype != torch.float64 or not v.isfinite().all():
            raise ValueError(
                "TwoLayer needs v of shape (classes >= 2, units), float64 and finite, got "
                f"{tuple(v.shape)} of {v.dtype}"
            )
        if not 1 <= self.bits <= 8:
            raise ValueError(f"TwoLayer needs bits of 1 to 8, got {self.bits}")
        object.__setattr__(self, "ste", self.ste.for_top(2**self.bits - 1))

    def outputs(self, w: Tensor, x: Tensor) -> Tensor:
        """Return o, (..., N, n), for weights (..., k, d) and samples (N, d)."""
        return quantized_relu(x @ w.mT, self.bits) @ self.v.T

    def predict(self, w: Tensor, x: Tensor) -> Tensor:
        """Return the class of the largest output, (..., N); the lowest of equal ones."""
        return self.outputs(w, x).argmax(-1)

    def losses(self, w: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return the hinge loss (5) of each sample, (..., N), for labels (N,) from 0."""
        return (1 - margins(self.outputs(w, x), y)[0]).clamp(min=0)

    def coarse_gradient(self, w: Tensor, x: Tensor, y: Tensor, p: Tensor | None = None) -> Tensor:
        r"""Return the expected coarse gradient (7), (..., k, d).

        .. math:: \tilde\nabla_{w_j} l = -\mathbb{E}\,
                  (v_{y,j} - v_{\xi,j})\, 1\{l > 0\}\, g'(\langle w_j, x \rangle)\, x

        Args:
            w: weights (..., k, d).
            x: samples (N, d).
            y: labels (N,), from 0.
            p: probability of each sample, (N,); 1/N unless given.
        """
        h = x @ w.mT
        f, rival = margins(quantized_relu(h, self.bits) @ self.v.T, y)
        weight = (f < 1).to(h.dtype) * (1 / len(x) if p is None else p)
        pull = (self.v.T[:, y].T - self.v.T[:, rival].movedim(0, -1)) * weight[..., None]
        return -(pull * self.ste.derivative(h)).mT @ x

    def step(self, w: Tensor, x: Tensor, y: Tensor, eta: float = 1.0) -> Tensor:
        """Return the weights after one step of iteration (8).

        Raises:
            ValueError: ``eta`` is not positive and finite.
        """
        if not (eta > 0 and math.isfinite(eta)):
            raise ValueError(f"step needs a finite eta > 0, got {eta!r}; the paper uses 1")
        return w - eta * self.coarse_gradient(w, x, y)


def margins(outputs: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return f_y = o_y - o_xi and xi, the strongest other class, the lowest of equal ones.

    Args:
        outputs: (..., N, n).
        y: (N,), from 0.

    >>> f, rival = margins(torch.tensor([[1.0, 0.5, 0.5]]), torch.tensor([0]))
    >>> f.tolist(), rival.tolist()
    ([0.5], [1])
    """
    own = torch.nn.functional.one_hot(y, outputs.shape[-1]).bool()
    strongest, rival = outputs.masked_fill(own, -torch.inf).max(-1)
    return outputs.masked_fill(~own, 0).sum(-1) - strongest, rival
