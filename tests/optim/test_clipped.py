from __future__ import annotations

import copy
import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from coarsegrad.optim import ClippedSGD, NormalizedSGD
from optim.table import Case, give, gradients

both = pytest.mark.parametrize("rule", [ClippedSGD, NormalizedSGD])


def _moved(rule: Any, norm: float, **options: Any) -> float:
    w = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    w.grad = torch.full((4,), norm / 2, dtype=torch.float64)
    rule([w], **options).step()
    return float(w.detach().norm()) / norm


@given(st.floats(1e-6, 1e6), st.floats(1e-3, 1e3), st.floats(1e-3, 10.0))
def test_normalised_is_between_half_of_clipped_and_clipped(
    norm: float, gamma: float, eta_c: float
) -> None:
    """Zhang et al.: with eta_n = gamma eta_c and beta = gamma, h_c / 2 <= h_n <= h_c."""
    h_c = _moved(ClippedSGD, norm, lr=eta_c, max_norm=gamma)
    h_n = _moved(NormalizedSGD, norm, lr=gamma * eta_c, beta=gamma)
    assert 0.5 - 1e-9 <= h_n / h_c <= 1 + 1e-9


@pytest.mark.parametrize("scale", [0.01, 0.3, 10.0])
def test_clipped_is_sgd_after_clip_grad_norm(scale: float) -> None:
    params = Case(ClippedSGD).weights()
    others = copy.deepcopy(params)
    ours = ClippedSGD([{"params": params[:2]}, {"params": params[2:]}], lr=0.1, max_norm=2.0)
    torchs = torch.optim.SGD(others, lr=0.1)
    for step in range(10):
        grads = [g * scale for g in gradients(params, step)]
        give(params, grads)
        give(others, grads)
        nn.utils.clip_grad_norm_(others, 2.0)
        ours.step()
        torchs.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@both
def test_the_norm_spans_groups_and_dtypes(rule: Any) -> None:
    """3, 4 and 12 have the norm 13, whatever the group and the precision they are kept in."""
    kinds = [torch.float32, torch.bfloat16, torch.float64]
    params = [nn.Parameter(torch.zeros(1, dtype=dtype)) for dtype in kinds]
    opt = rule([{"params": params[:1]}, {"params": params[1:]}], lr=1.0)
    for p, g in zip(params, (3.0, 4.0, 12.0), strict=True):
        p.grad = torch.full_like(p, g)
    opt.step()
    h = 1 / 13 if rule is ClippedSGD else 1 / 14
    for p, g in zip(params, (3.0, 4.0, 12.0), strict=True):
        assert p.item() == pytest.approx(-h * g, rel=1e-2 if p.dtype == torch.bfloat16 else 1e-6)


@both
def test_sixteen_bit_norms_do_not_overflow(rule: Any) -> None:
    w = nn.Parameter(torch.zeros(1000, dtype=torch.float16))
    w.grad = torch.full_like(w, 6e4)
    rule([w], lr=1.0).step()
    assert float(w.detach().float().norm()) == pytest.approx(1.0, rel=1e-3)


@both
@pytest.mark.parametrize("norm", ["global", "tensor"])
def test_a_nan_norm_spoils_what_it_covers(rule: Any, norm: str) -> None:
    params = Case(rule).weights(shapes=[(4, 3), (5,)])
    opt = rule(params, norm=norm)
    grads = gradients(params, 1)
    grads[0][0, 0] = math.nan
    give(params, grads)
    opt.step()
    assert bool(params[0].isnan().all())
    assert bool(params[1].isnan().all()) == (norm == "global")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"lr": -1.0}, r"Invalid learning rate: -1.0 \(must be >= 0\)"),
    ({"momentum": 1.0}, r"Invalid momentum value: 1.0 \(must be in \[0, 1\)\)"),
    ({"momentum": -0.1}, "Invalid momentum value: -0.1"),
    ({"weight_decay": -1.0}, "Invalid weight_decay value: -1.0"),
    ({"norm": "layer"}, "Invalid norm value: 'layer'"),
    ({"box": (1.0, -1.0)}, "Invalid box value"),
]


@pytest.mark.parametrize(
    ("rule", "bad", "message"),
    [(rule, *row) for rule in (ClippedSGD, NormalizedSGD) for row in BAD]
    + [
        (ClippedSGD, {"max_norm": 0.0}, r"Invalid max_norm value: 0.0 \(must be > 0\)"),
        (NormalizedSGD, {"beta": 0.0}, r"Invalid beta value: 0.0 \(must be > 0\)"),
    ],
    ids=str,
)
def test_refuses(rule: Any, bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(Case(rule).weights(), **bad)
    with pytest.raises(ValueError, match=message):
        rule([{"params": Case(rule).weights(), **bad}])


@both
def test_has_no_fused_pass(rule: Any) -> None:
    with pytest.raises(RuntimeError, match=f"{rule.__name__} has no fused pass; leave `fused`"):
        rule(Case(rule).weights(), fused=True)
