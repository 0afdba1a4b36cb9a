"""The space decomposition of section 4: every weight in the subspace of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def component(w: Tensor, basis: Tensor) -> Tensor:
    """Return w_{j,i} = P_{V_i} w_j, of w's shape (..., d).

    Args:
        w: vectors (..., d).
        basis: an orthonormal basis of V_i as rows, (d_i, d).

    >>> component(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]])).tolist()
    [[0.0, 4.0]]
    """
    return (w @ basis.T) @ basis


def components(w: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Return (w_{j,1}, ..., w_{j,n+1}), (n + 1, ..., d); they add up to w (section 4).

    The last is the part in V_{n+1}, what is left of the space.

    Raises:
        ValueError: the subspaces are not orthogonal; the parts would not add up to w.
    """
    for i, first in enumerate(bases):
        for second in bases[i + 1 :]:
            if principal_angle(first, second) < math.pi / 2 - 1e-12:
                raise ValueError(
                    "components needs orthogonal subspaces, got an angle of "
                    f"{principal_angle(first, second):.4f}; component projects onto any one"
                )
    parts = torch.stack([component(w, basis) for basis in bases])
    return torch.cat([parts, (w - parts.sum(0))[None]])


def unit(w: Tensor) -> Tensor:
    """Return w / |w| over the last dimension; 0 stays 0 (Table 1).

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norm: Tensor = torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    return w / norm.where(norm > 0, 1)


def principal_angle(first: Tensor, second: Tensor) -> float:
    """Return the smallest angle between two subspaces, given by orthonormal rows, in radians.

    >>> e = torch.eye(3, dtype=torch.float64)
    >>> principal_angle(e[:1], e[1:]) == math.pi / 2
    True
    """
    return math.acos(min(1.0, float(torch.linalg.matrix_norm(first @ second.T, 2))))


def weight_norm(w: Tensor) -> Tensor:
    """Return |W| = sum over j of |w_j|, (...) for weights (..., k, d) (Table 1)."""
    norms: Tensor = torch.linalg.vector_norm(w, dim=-1)
    return norms.sum(-1)
