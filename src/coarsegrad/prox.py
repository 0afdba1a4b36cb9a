r"""Proximal maps: the nearest point that a penalty or a constraint lets through.

.. math:: \mathrm{prox}_{rP}(x) = \arg\min_u \frac{1}{2} |u - x|^2 + r P(u)

Pure functions of tensors. The result is a new tensor of x's shape, dtype and device, without a
gradient history: proximal maps run on weights, not inside a graph. Sixteen-bit floats are computed
in float32 and rounded once; a NaN stays a NaN. Where several u attain the minimum, the docstring
says which one comes back. r is a number >= 0, or a tensor of such that broadcasts to x's shape.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coarsegrad.errors import ArgumentError


@torch.no_grad()
def l1(x: Tensor, r: float | Tensor) -> Tensor:
    r"""Return the soft threshold, the minimiser for P(u) = sum of \|u_i\|.

    .. math:: S_r(x)_i = \mathrm{sgn}(x_i) \max(|x_i| - r, 0)

    Dinh and Xin 2020 (Front. Appl. Math. Stat. 6:13), section 5.2.

    Args:
        x: a tensor of a floating dtype, any shape.
        r: the weight of the penalty, >= 0.

    Raises:
        ArgumentError: ``x`` is not floating, or ``r`` is negative, NaN or of an alien shape.

    >>> l1(torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]), 0.5)
    tensor([-1.5000,  0.0000,  0.0000,  0.0000,  1.5000])
    """
    work, weight = _working(x, "l1"), _weight(r, x, "l1")
    # x minus its clamp has no -0 and, unlike sgn(x) max(|x| - r, 0), one rounding.
    return (work - work.clamp(-weight, weight)).to(x.dtype)


@torch.no_grad()
def l0(x: Tensor, r: float | Tensor) -> Tensor:
    r"""Return the hard threshold, the minimiser for P(u) = the number of u_i that are not 0.

    .. math:: H_r(x)_i = x_i \;\mathrm{if}\; |x_i| > \sqrt{2r}, \;\mathrm{else}\; 0

    At \|x_i\| = sqrt(2r) both 0 and x_i attain the minimum; 0 comes back. Dinh and Xin 2020,
    Lemma 9.

    Args:
        x: a tensor of a floating dtype, any shape.
        r: the weight of the penalty, >= 0.

    Raises:
        ArgumentError: ``x`` is not floating, or ``r`` is negative, NaN or of an alien shape.

    >>> l0(torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]), 0.5)
    tensor([-2.,  0.,  0.,  0.,  2.])
    """
    work, weight = _working(x, "l0"), _weight(r, x, "l0")
    return work.masked_fill(work.abs() <= (2 * weight).sqrt(), 0).to(x.dtype)


@torch.no_grad()
def transformed_l1(x: Tensor, r: float | Tensor, a: float = 1.0) -> Tensor:
    r"""Return the minimiser for the transformed l1 penalty, between l0 (a = 0) and l1 (a = inf).

    .. math:: P(u) = \sum_i \frac{(a + 1) |u_i|}{a + |u_i|}

    0 up to the threshold t, and beyond it the largest root of the stationary equation:

    .. math:: t = r \frac{a+1}{a} \;\mathrm{if}\; r \leq \frac{a^2}{2(a+1)}, \;\mathrm{else}\;
              \sqrt{2r(a+1)} - \frac{a}{2}

    .. math:: g_r(x) = \mathrm{sgn}(x)
              \left(|x| - \frac{4}{3} (a + |x|) \sin^2 \frac{\phi}{6}\right),
              \quad \cos\phi = 1 - \frac{27\, r\, a (a+1)}{2 (a + |x|)^3}

    The printed (2/3)(a + \|x\|) cos(phi/3) - 2a/3 + \|x\|/3 is the same number and loses its digits
    for large a. Above r = a^2 / (2(a+1)) the map jumps at t; there 0 comes back. Zhang and Xin 2017
    (Commun. Math. Sci. 15:511), Dinh and Xin 2020, Lemma 8.

    Args:
        x: a tensor of a floating dtype, any shape.
        r: the weight of the penalty, >= 0.
        a: the shape of the penalty, > 0.

    Raises:
        ArgumentError: ``x`` is not floating, ``r`` is negative, NaN or of an alien shape, or ``a``
            is not positive and finite.

    >>> transformed_l1(torch.tensor([-2.0, 0.5, 1.0, 2.0]), 0.25, a=1.0)
    tensor([-1.9422,  0.0000,  0.8546,  1.9422])
    """
    if not 0 < a < math.inf:
        raise ArgumentError(
            f"transformed_l1 needs a finite a > 0, got {a!r}; prox.l0 and prox.l1 are its limits"
        )
    work, weight = _working(x, "transformed_l1"), _weight(r, x, "transformed_l1")
    size = work.abs()
    threshold = torch.where(
        weight <= a * a / (2 * (a + 1)),
        weight * ((a + 1) / a),
        (2 * (a + 1) * weight).sqrt() - a / 2,
    )
    # arccos(1 - 2q) is 2 arcsin(sqrt(q)), exact where q is small; q is at most 1 beyond t.
    share = a / (a + size)
    q = (6.75 * (a + 1) / a) * weight * share * share / (a + size)
    sine = (q.clamp(max=1).sqrt().asin() / 3).sin()
    moved = size - (4 / 3) * (a + size) * sine * sine
    return torch.where(size <= threshold, 0, moved.copysign(work)).to(x.dtype)


@torch.no_grad()
def group_l2(x: Tensor, r: float | Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    r"""Return the minimiser for P(u) = sum over groups g of \|u_g\|_2: groups shrink, or go whole.

    .. math:: u_g = \max(0, 1 - r / |x_g|)\, x_g

    Args:
        x: a tensor of a floating dtype, any shape.
        r: the weight of the penalty, >= 0; a tensor broadcasts to the groups' norms, in which
            ``dim`` has size 1.
        dim: the dimensions within a group. By default all but the first: a group an output
            channel, and a group for each element of a vector.

    Raises:
        ArgumentError: ``x`` is not floating, or ``r`` is negative, NaN or of an alien shape.
        IndexError: ``x`` has no such ``dim``.

    >>> group_l2(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[2.4000, 3.2000],
            [0.0000, 0.0000]])
    """
    work = _working(x, "group_l2")
    within = tuple(range(1, x.ndim)) if dim is None else dim
    norm = work.abs() if within == () else _norm(work, within)
    weight = _weight(r, norm, "group_l2").to(work.dtype)
    kept = (norm - weight).clamp(min=0) / norm
    return torch.where(norm <= weight, 0, work * kept).to(x.dtype)


@torch.no_grad()
def box(x: Tensor, low: float | Tensor = -1.0, high: float | Tensor = 1.0) -> Tensor:
    r"""Return the nearest point of the box low <= u <= high: the clamp.

    Args:
        x: a tensor of a floating dtype, any shape.
        low: the lower bound, a number or a tensor that broadcasts to x's shape.
        high: the upper bound, likewise.

    Raises:
        ArgumentError: ``x`` is not floating, or not low <= high.

    >>> box(torch.tensor([-2.0, 0.5, 2.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    work = _working(x, "box")
    bounds = [torch.as_tensor(b, dtype=work.dtype, device=x.device) for b in (low, high)]
    if not bool((bounds[0] <= bounds[1]).all()):
        raise ArgumentError(f"box needs low <= high, got low = {low}, high = {high}")
    _fitting(bounds[0] + bounds[1], x, "box", "bounds")
    return work.clamp(*bounds).to(x.dtype)


@torch.no_grad()
def ball(x: Tensor, radius: float = 1.0, dim: int | tuple[int, ...] | None = None) -> Tensor:
    r"""Return the nearest point of the ball \|u\|_2 <= radius.

    .. math:: u = x \min(1, \mathrm{radius} / |x|)

    Args:
        x: a tensor of a floating dtype, any shape.
        radius: >= 0, finite.
        dim: the dimensions of one vector; by default all, x is one point.

    Raises:
        ArgumentError: ``x`` is not floating, or ``radius`` is negative or not finite.
        IndexError: ``x`` has no such ``dim``.

    >>> ball(torch.tensor([3.0, 4.0])), ball(torch.tensor([0.3, 0.4]))
    (tensor([0.6000, 0.8000]), tensor([0.3000, 0.4000]))
    """
    work = _working(x, "ball")
    if not 0 <= radius < math.inf:
        raise ArgumentError(f"ball needs a finite radius >= 0, got {radius!r}")
    norm = _norm(work, tuple(range(x.ndim)) if dim is None else dim)
    return torch.where(norm <= radius, work, work * (radius / norm)).to(x.dtype)


@torch.no_grad()
def simplex(x: Tensor, total: float = 1.0, dim: int = -1) -> Tensor:
    r"""Return the nearest point of the simplex u >= 0, sum of u = total, along a dimension.

    .. math:: u_i = \max(x_i - \theta, 0), \qquad \sum_i u_i = \mathrm{total}

    theta by sorting; Held, Wolfe, Crowder 1974.

    Args:
        x: a tensor of a floating dtype, of one dimension or more.
        total: > 0, finite.
        dim: the dimension of one point.

    Raises:
        ArgumentError: ``x`` is not floating, has no dimension or nothing along ``dim``, or
            ``total`` is not positive and finite.
        IndexError: ``x`` has no such ``dim``.

    >>> simplex(torch.tensor([0.5, 1.0, -1.0]))
    tensor([0.2500, 0.7500, 0.0000])
    """
    work = _working(x, "simplex")
    if not 0 < total < math.inf:
        raise ArgumentError(f"simplex needs a finite total > 0, got {total!r}")
    if x.ndim == 0 or x.shape[dim] == 0:
        raise ArgumentError(
            f"simplex needs one coordinate or more along dim {dim}, got the shape {tuple(x.shape)}"
        )
    points = work.movedim(dim, -1)
    # A shift of all coordinates changes nothing, and keeps large ones from drowning the total.
    points = points - points.amax(-1, keepdim=True)
    ordered = points.sort(-1, descending=True).values
    count = torch.arange(1, x.shape[dim] + 1, dtype=work.dtype, device=x.device)
    theta = (ordered.cumsum(-1) - total) / count
    last = (ordered > theta).sum(-1, keepdim=True).clamp(min=1) - 1
    return (points - theta.gather(-1, last)).clamp(min=0).movedim(-1, dim).to(x.dtype)


@torch.no_grad()
def n_m(x: Tensor, n: int, m: int, dim: int = -1) -> Tensor:
    r"""Return the nearest point of the N:M patterns: n of each m in a row keep their values.

    The largest magnitudes stay, of equal ones the first; 2:4 is what sparse tensor cores take.
    Zhou et al. 2021, arXiv:2102.04010.

    Args:
        x: a tensor of a floating dtype, of one dimension or more.
        n: how many stay, 1 <= n <= m.
        m: the length of a run; it divides the size of ``dim``.
        dim: the dimension along which runs lie.

    Raises:
        ArgumentError: ``x`` is not floating or has no dimension, not 1 <= n <= m, or ``m`` does
            not divide the size of ``dim``.
        IndexError: ``x`` has no such ``dim``.

    >>> n_m(torch.tensor([1.0, -3.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0]), 2, 4)
    tensor([ 0., -3.,  2.,  0.,  1.,  1.,  0.,  0.])
    """
    if not (isinstance(n, int) and isinstance(m, int) and 1 <= n <= m):
        raise ArgumentError(f"n_m needs integers 1 <= n <= m, got n = {n!r}, m = {m!r}")
    _working(x, "n_m")
    if x.ndim == 0 or x.shape[dim] % m:
        raise ArgumentError(
            f"n_m needs m to divide the size of dim {dim}, got m = {m} and the shape "
            f"{tuple(x.shape)}; choose another dim, or leave this tensor dense"
        )
    runs = x.movedim(dim, -1).unflatten(-1, (-1, m))
    first = runs.abs().sort(stable=True, dim=-1, descending=True).indices[..., :n]
    kept = torch.zeros(runs.shape, dtype=torch.bool, device=x.device).scatter(-1, first, True)
    return torch.where(kept, runs, 0).flatten(-2).movedim(-1, dim).contiguous()


def _working(x: Tensor, name: str) -> Tensor:
    """Return x in the dtype that the map is computed in, or refuse it."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(
            f"{name} needs a tensor of a floating dtype, got {kind}; an integer has no nearest "
            "smaller weight, call x.float() first"
        )
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _weight(r: float | Tensor, x: Tensor, name: str) -> Tensor:
    """Return r as a tensor for x, or refuse it; a number becomes float64 without dimensions."""
    if isinstance(r, Tensor):
        good = not r.dtype.is_complex and bool((r >= 0).all())
        if good:
            _fitting(r, x, name, "r")
            return r.to(x.device, torch.float32 if x.dtype.itemsize == 2 else x.dtype)
    elif isinstance(r, (int, float)) and r >= 0:
        return torch.tensor(r, dtype=torch.float64)
    raise ArgumentError(f"{name} needs r >= 0, a number or a tensor of such, got {r!r}")


def _fitting(r: Tensor, x: Tensor, name: str, what: str) -> None:
    pairs = zip(reversed(r.shape), reversed(x.shape), strict=False)
    if r.ndim > x.ndim or any(have not in (1, want) for have, want in pairs):
        raise ArgumentError(
            f"{name} needs {what} of a shape that broadcasts to {tuple(x.shape)}, "
            f"got {tuple(r.shape)}"
        )


def _norm(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return the l2 norm over dim, kept as 1; summed in float64, where no square overflows."""
    if x.ndim == 0:
        return x.abs()
    norm: Tensor = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float64)
    return norm.to(x.dtype)
