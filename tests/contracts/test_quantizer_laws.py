"""Laws that every pair of forward map and coarse derivative obeys."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity, SwishSign, Triangle

STES = [Identity(), ClippedIdentity(), Triangle(), SwishSign()]
SCALES = ["none", "tensor", "channel"]
PAIRS = [Sign(ste=ste, scale=scale) for ste, scale in itertools.product(STES, SCALES)]
pairs = pytest.mark.parametrize("quantizer", PAIRS, ids=lambda q: q.extra_repr())


def sample(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, :4] = torch.tensor([0.0, -0.0, 1.0, -1.0])
    return x


@pairs
def test_only_legal_levels_and_input_kept(quantizer: Sign) -> None:
    x = sample()
    before = x.clone()
    signs, scale = quantizer.split(x)
    assert set(signs.unique().tolist()) <= set(quantizer.levels)
    assert torch.equal(x, before)
    assert scale is None or bool((scale >= 0).all())


@pairs
def test_without_scale_it_is_idempotent(quantizer: Sign) -> None:
    signs, _ = quantizer.split(sample())
    assert torch.equal(quantizer.split(signs)[0], signs)


@pairs
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_shape_and_gradient(quantizer: Sign, dtype: torch.dtype) -> None:
    x = sample(dtype).requires_grad_()
    y = quantizer(x)
    y.backward(torch.ones_like(y))
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()


@pairs
def test_autocast_bf16(quantizer: Sign) -> None:
    layer = Linear(5, 3, bias=False, input_quantizer=Sign(ste=quantizer.ste),
                   weight_quantizer=quantizer)  # fmt: skip
    exact = layer(sample())
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(sample())
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), exact, rtol=1e-2, atol=1e-2)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


@pairs
def test_float64_layer(quantizer: Sign) -> None:
    layer = Conv2d(2, 4, 3, weight_quantizer=quantizer, dtype=torch.float64)
    y = layer(torch.randn(2, 2, 5, 5, dtype=torch.float64))
    y.sum().backward()
    assert y.dtype == torch.float64
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float64


@pairs
def test_deepcopy_and_save(quantizer: Sign) -> None:
    clone = copy.deepcopy(quantizer)
    file = io.BytesIO()
    torch.save(quantizer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (clone, loaded):
        assert torch.equal(other(sample()), quantizer(sample()))
        assert other.ste == quantizer.ste


def compiled_equals_eager(quantizer: Sign, backend: str) -> None:
    torch._dynamo.reset()
    layer = Linear(5, 4, input_quantizer=Sign(ste=quantizer.ste), weight_quantizer=quantizer)
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    gradients = []
    for function in (layer, compiled):
        layer.zero_grad()
        x = sample().requires_grad_()
        y = function(x)
        y.square().sum().backward()
        assert x.grad is not None
        assert layer.weight.grad is not None
        gradients.append((y.detach(), x.grad, layer.weight.grad.clone()))
    for eager, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, eager)


# torch 2.13's dynamo instantiates Function itself while it traces one.
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@pairs
def test_compiles_fullgraph(quantizer: Sign) -> None:
    compiled_equals_eager(quantizer, "aot_eager")


INDUCTOR: list[tuple[CoarseDerivative, str]] = [
    (ClippedIdentity(), "none"),
    (SwishSign(), "channel"),
]


@pytest.mark.filterwarnings("ignore")  # what inductor's own imports warn of is not ours
@pytest.mark.parametrize(("ste", "scale"), INDUCTOR, ids=str)
def test_compiles_with_inductor(ste: CoarseDerivative, scale: str) -> None:
    compiled_equals_eager(Sign(ste=ste, scale=scale), "inductor")  # type: ignore[arg-type]
