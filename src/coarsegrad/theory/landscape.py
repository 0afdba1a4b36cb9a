r"""Figure 1 of the BAMSProd paper: a float and a binary model on the Shubert function.

The caption says: the Shubert surface, the transition of the weights of both models trained by Adam,
"projected onto a plane defined by a two-dimension orthogonal domain". It does not say how many
weights, which plane, which start, rate, number of steps or derivative, and no text mentions the
figure again but for the "inaccurate approximation of the gradients". Here, in float64::

    p = scale O w~,   O with 2 orthonormal rows,   f = shubert(p)
    float: w~ = w;    binary: w~ = mean|w| sign(w), gradient straight through to w

so that what is drawn, p, is both the projection on a plane and all that the loss depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from coarsegrad.errors import DivergenceError

LEAST = -186.7309
"""The smallest value of the Shubert function of two variables."""

Make = Callable[[list[Parameter]], Optimizer]


def shubert(p: Tensor) -> Tensor:
    r"""Return prod over both coordinates of sum_{i=1..5} i cos((i + 1) p + i).

    Args:
        p: points, (..., 2).

    >>> float(shubert(torch.tensor([-7.0835, 4.8580], dtype=torch.float64))) < LEAST + 1e-3
    True
    """
    i = torch.arange(1, 6, dtype=p.dtype)
    return (i * torch.cos((i + 1) * p[..., None] + i)).sum(-1).prod(-1)


@final
@dataclass(frozen=True, eq=False)
class Landscape:
    """The surface over the weights, and the plane that it is looked at in.

    Args:
        plane: O, (2, d), orthonormal rows.
        scale: from weights to the surface; 4 puts the box [-1, 1]^d well over several valleys.

    Raises:
        ValueError: the plane is not (2, d) with orthonormal rows.
    """

    plane: Tensor
    scale: float = 4.0

    def __post_init__(self) -> None:
        shape = tuple(self.plane.shape)
        flat = len(shape) == 2 and shape[0] == 2
        if not flat or not torch.allclose(
            self.plane @ self.plane.T, torch.eye(2, dtype=self.plane.dtype), atol=1e-9
        ):
            raise ValueError(
                f"Landscape needs a plane of shape (2, d) with orthonormal rows, got {shape}; "
                "take random_plane(d, seed)"
            )

    def point(self, w: Tensor) -> Tensor:
        """Return scale O w, (..., 2)."""
        return self.scale * w @ self.plane.T

    def loss(self, w: Tensor) -> Tensor:
        """Return the surface at the weights, (...)."""
        return shubert(self.point(w))


def random_plane(dimension: int, seed: int) -> Tensor:
    """Return two random orthonormal rows, (2, dimension), float64.

    >>> plane = random_plane(8, 0)
    >>> bool(torch.allclose(plane @ plane.T, torch.eye(2, dtype=torch.float64)))
    True
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(dimension, 2, dtype=torch.float64, generator=generator)
    rows: Tensor = torch.linalg.qr(draws)[0].T.contiguous()
    return rows


def binarized(w: Tensor) -> Tensor:
    """Return mean|w| sign(w) for each row, with sign(0) = +1.

    >>> binarized(torch.tensor([[0.6, -0.2]])).tolist()
    [[0.4000000059604645, -0.4000000059604645]]
    """
    return torch.where(w >= 0, 1.0, -1.0).to(w.dtype) * w.abs().mean(-1, keepdim=True)


@final
@dataclass(frozen=True, eq=False)
class Paths:
    """Trajectories of several starts.

    Attributes:
        points: p of the weights that the loss is taken at, (steps + 1, starts, 2).
        losses: (steps + 1, starts).
    """

    points: Tensor
    losses: Tensor


def starts(count: int, dimension: int) -> Tensor:
    """Return starting weights of the seeds 0 to count - 1, uniform in [-1, 1], (count, dimension).

    >>> starts(2, 8).shape
    torch.Size([2, 8])
    """
    return torch.stack([
        2 * torch.rand(dimension, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed)) - 1
        for seed in range(count)
    ])  # fmt: skip


def descend(
    land: Landscape, start: Tensor, make: Make, steps: int, *, binary: bool,
    box: tuple[float, float] | None = (-1.0, 1.0),
) -> Paths:  # fmt: skip
    """Let an optimizer move weights over the surface, each row a run of its own.

    Args:
        land: the surface.
        start: (starts, d), float64.
        make: given the list of one (starts, d) parameter, returns its optimizer; it must treat
            rows as independent (BAMSProd: ``per="channel"``).
        steps: how many.
        binary: whether the loss is taken at mean|w| sign(w), with the gradient straight through.
        box: where latent weights are kept, or None.

    Raises:
        DivergenceError: weights are no longer finite.

    >>> land = Landscape(random_plane(8, 0))
    >>> found = descend(land, starts(3, 8), lambda p: torch.optim.Adam(p, 1e-2), 5, binary=True)
    >>> found.points.shape
    torch.Size([6, 3, 2])
    """
    w = Parameter(start.clone())
    optimizer = make([w])
    points: list[Tensor] = []
    losses: list[Tensor] = []

    def look() -> tuple[Tensor, Tensor]:
        seen = w.detach()
        seen = (binarized(seen) if binary else seen).requires_grad_()
        loss = land.loss(seen)
        points.append(land.point(seen).detach())
        losses.append(loss.detach())
        return seen, loss

    for t in range(1, steps + 1):
        seen, loss = look()
        # The slope at the binary point, taken by the latent weights as theirs.
        (w.grad,) = torch.autograd.grad(loss.sum(), seen)
        optimizer.step()
        if box is not None:
            w.data.clamp_(*box)
        _refuse_unless_finite(w, t)
    look()
    return Paths(torch.stack(points), torch.stack(losses))


def _refuse_unless_finite(w: Any, t: int) -> None:
    if not bool(torch.isfinite(w).all()):
        raise DivergenceError(
            f"a trajectory diverged at iteration {t}: weights are not finite; take a smaller rate"
        )


def reachable(land: Landscape, scales: Tensor) -> float:
    """Return the smallest loss over all alpha s with s in {-1, 1}^d and alpha among ``scales``.

    Args:
        land: the surface, of d <= 16.
        scales: (K,), float64.

    Raises:
        ValueError: d is above 16: 2^d sign vectors are looked at.

    >>> reachable(Landscape(random_plane(8, 0)), torch.linspace(0, 1, 50).double()) < -50
    True
    """
    dimension = land.plane.shape[1]
    if dimension > 16:
        raise ValueError(f"reachable needs d of at most 16, got {dimension}")
    codes = torch.arange(2**dimension)[:, None] >> torch.arange(dimension) & 1
    points = land.point(2.0 * codes.to(torch.float64) - 1)
    return min(float(shubert(alpha * points).min()) for alpha in scales)
