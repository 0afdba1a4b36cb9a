"""Laws that every proximal map obeys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from coarsegrad import prox

MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "l0": lambda x: prox.l0(x, 0.3),
    "l1": lambda x: prox.l1(x, 0.3),
    "l1, r a tensor": lambda x: prox.l1(x, torch.tensor(0.3)),
    "transformed_l1, smooth": lambda x: prox.transformed_l1(x, 0.3, a=2.0),
    "transformed_l1, jumps": lambda x: prox.transformed_l1(x, 0.3, a=0.3),
    "group_l2": lambda x: prox.group_l2(x, 0.8),
    "box": lambda x: prox.box(x, -0.4, 0.6),
    "ball": lambda x: prox.ball(x, 0.7),
    "ball, rows": lambda x: prox.ball(x, 0.7, dim=-1),
    "simplex": lambda x: prox.simplex(x, 1.5),
    "n_m": lambda x: prox.n_m(x, 2, 4),
}
# transformed_l1 is no contraction even where it is continuous: its penalty is not convex.
CONVEX = ("l1", "group_l2", "box", "ball", "ball, rows", "simplex")
PROJECTIONS = ("box", "ball", "ball, rows", "simplex", "n_m")
ODD = ("l0", "l1", "transformed_l1, smooth", "transformed_l1, jumps", "group_l2", "ball", "n_m")
maps = pytest.mark.parametrize("name", MAPS)


def some(shape: tuple[int, ...] = (3, 8), seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@maps
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 3, 4), (0, 4)], ids=str)
def test_keeps_shape_dtype_device_and_its_input(
    name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x = some(shape).to(dtype).requires_grad_()
    before, version = x.detach().clone(), x._version
    u = MAPS[name](x)
    assert (u.shape, u.dtype, u.device) == (x.shape, x.dtype, x.device)
    assert torch.equal(x.detach(), before)
    assert x._version == version
    assert u.untyped_storage().data_ptr() != x.untyped_storage().data_ptr() or x.numel() == 0
    assert not u.requires_grad


@maps
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_those_of_float32(name: str, dtype: torch.dtype) -> None:
    x = some().to(dtype)
    assert torch.equal(MAPS[name](x), MAPS[name](x.float()).to(dtype))


@maps
def test_float32_is_near_float64(name: str) -> None:
    x = some().float()
    torch.testing.assert_close(MAPS[name](x).double(), MAPS[name](x.double()), rtol=1e-6, atol=1e-6)


@maps
def test_layout_does_not_matter(name: str) -> None:
    x = some((8, 8)).T
    torch.testing.assert_close(MAPS[name](x), MAPS[name](x.contiguous()), rtol=1e-15, atol=1e-15)


@maps
def test_zeros_have_no_sign(name: str) -> None:
    u = MAPS[name](torch.cat([some(), -some()]))
    assert not bool(((u == 0) & u.signbit()).any())


@maps
def test_a_nan_stays_where_it_is_seen(name: str) -> None:
    x = some((4, 4))
    x[1, 1] = torch.nan
    assert bool(MAPS[name](x)[1, 1].isnan())


@pytest.mark.parametrize("name", CONVEX)
def test_convex_ones_are_firmly_nonexpansive(name: str) -> None:
    r"""\|u - v\|^2 <= <u - v, x - y> (Moreau 1965)."""
    for seed in range(50):
        x, y = some(seed=2 * seed), some(seed=2 * seed + 1) * 10 ** (seed % 3 - 1)
        u, v = MAPS[name](x), MAPS[name](y)
        assert float(((u - v) * (x - y - u + v)).sum()) >= -1e-12


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections_are_idempotent(name: str) -> None:
    once = MAPS[name](some())
    torch.testing.assert_close(MAPS[name](once), once, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("name", ODD)
def test_odd_ones_are_odd(name: str) -> None:
    x = some()
    assert torch.equal(MAPS[name](-x), -MAPS[name](x))


@pytest.mark.parametrize("name", ["l0", "l1", "transformed_l1", "group_l2"])
def test_weight_zero_changes_nothing_and_infinity_leaves_nothing(name: str) -> None:
    x, call = some(), getattr(prox, name)
    assert torch.equal(call(x, 0.0), x)
    assert torch.equal(call(x, float("inf")), torch.zeros_like(x))


@pytest.mark.parametrize("name", ["l0", "l1", "transformed_l1"])
def test_a_tensor_weight_is_one_weight_an_element(name: str) -> None:
    x, call = some(), getattr(prox, name)
    r = some(seed=1).abs()
    each = [call(x[i, j], float(r[i, j])) for i in range(3) for j in range(8)]
    torch.testing.assert_close(call(x, r), torch.stack(each).view(3, 8), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(call(x, r[:, :1]), call(x, r[:, :1].expand(3, 8)))
