"""Laws that every pair of forward map and coarse derivative obeys."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch

from coarsegrad.nn import Conv2d, Linear
from coarsegrad.quantizers import (
    DoReFa,
    Heaviside,
    Quantizer,
    QuantReLU,
    QuantWeight,
    Sign,
    Ternary,
)
from coarsegrad.quantizers.scale import ScaledLevels
from coarsegrad.ste import (
    ClippedIdentity,
    ClippedReLU,
    Identity,
    LogTailedReLU,
    ReLU,
    ReverseExp,
    Sigmoid,
    SwishSign,
    Triangle,
)

MAPS = [Sign, Heaviside, Ternary]
STES = [
    Identity(), ClippedIdentity(), Triangle(), SwishSign(), ReLU(), ClippedReLU(), Sigmoid(),
]  # fmt: skip
SCALES = ["none", "tensor", "channel", "learned"]
ONE_SIDED = [ReLU(), ClippedReLU(), ReverseExp(), LogTailedReLU()]
PAIRS: list[ScaledLevels] = [
    make(ste=ste, scale=scale) for make, ste, scale in itertools.product(MAPS, STES, SCALES)
]
PAIRS.append(Ternary(threshold=0.4))
SEVERAL: list[torch.nn.Module] = [
    *[QuantReLU(bits, ste=ste, levels=levels)
      for bits, ste, levels in itertools.product((1, 2, 4, 8), ONE_SIDED, ("ceil", "round"))],
    QuantReLU(2, 0.7, levels="midpoint"), QuantReLU(2, learn="lsq"), QuantReLU(3, learn="pact"),
    QuantReLU(2).calibrate(torch.linspace(-1, 3, 99), "lloyd-max"),
    *[QuantWeight(bits, scale) for bits in (1, 2, 4, 8) for scale in ("tensor", "channel")],
    QuantWeight(3, "learned", step=0.4), QuantWeight(3, ste=Triangle()),
    *[DoReFa(bits) for bits in (1, 2, 4)],
]  # fmt: skip
PAIRS += SEVERAL  # type: ignore[arg-type]
pairs = pytest.mark.parametrize("quantizer", PAIRS, ids=repr)
# Each map with each scale, and each ste, for the laws that take a while.
FEW = [
    q for q in PAIRS
    if isinstance(q.ste, Triangle) or (type(q) is Sign and q.scale == "tensor")
    or (q in SEVERAL and q.bits in (2, 3))
]  # fmt: skip
few = pytest.mark.parametrize("quantizer", FEW, ids=repr)


def sample(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, :4] = torch.tensor([0.0, -0.0, 1.0, -1.0])
    return x


@pairs
def test_only_legal_levels_and_input_kept(quantizer: ScaledLevels) -> None:
    x = sample()
    before = x.clone()
    levels, scale = quantizer.split(x)
    found = set(levels.unique().tolist())
    assert found == set(quantizer.levels) if len(quantizer.levels) <= 3 else found <= set(
        quantizer.levels)  # fmt: skip
    assert isinstance(quantizer, Quantizer)
    assert list(quantizer.levels) == sorted(set(quantizer.levels))
    assert (levels.dtype, levels.shape) == (x.dtype, x.shape)
    assert torch.equal(x, before)
    assert scale is None or bool((scale >= 0).all())


@pytest.mark.parametrize("quantizer", [q for q in PAIRS if q not in SEVERAL], ids=repr)
def test_without_scale_it_is_idempotent(quantizer: ScaledLevels) -> None:
    levels, _ = quantizer.split(sample())
    assert torch.equal(quantizer.split(levels)[0], levels)


@pytest.mark.parametrize("quantizer", [q for q in PAIRS if q not in SEVERAL], ids=repr)
def test_the_gradient_is_scale_times_coarse_derivative(quantizer: ScaledLevels) -> None:
    x = sample().requires_grad_()
    y = quantizer(x)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    y.backward(upstream)
    levels, scale = quantizer.split(x.detach())
    alpha = torch.ones(()) if scale is None else scale.detach()
    if alpha.dim():
        alpha = alpha[:, None]
    assert x.grad is not None
    torch.testing.assert_close(y.detach(), alpha * levels)
    torch.testing.assert_close(x.grad, upstream * alpha * quantizer.ste.derivative(x.detach()))


@pytest.mark.parametrize("quantizer", SEVERAL, ids=repr)
def test_the_gradient_of_several_bits_is_that_of_the_proxy_in_steps(quantizer: QuantReLU) -> None:
    x = sample().requires_grad_()
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    y = quantizer(x)
    y.backward(upstream)
    levels, scale = quantizer.split(x.detach())
    scale = torch.ones(()) if scale is None else scale.detach()
    scale = scale[:, None] if scale.dim() else scale
    torch.testing.assert_close(y.detach(), scale * levels)
    if isinstance(quantizer, DoReFa):
        return  # its own test has the gradient, with that of tanh
    unit = quantizer.unit if isinstance(quantizer, QuantReLU) else scale
    expected = upstream * quantizer.ste.derivative(x.detach() / unit)
    if isinstance(quantizer, QuantWeight) and quantizer.scale == "learned":
        expected = expected * ((x.detach() / unit).abs() <= quantizer.top)
    torch.testing.assert_close(x.grad, expected)


@pairs
def test_a_layer_is_scale_times_the_sum_of_levels(quantizer: ScaledLevels) -> None:
    weight = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    inputs = copy.deepcopy(quantizer)
    # The same map on the input, where it may stand there.
    made_for_weights = getattr(inputs, "weights_only", False)
    inputs = Heaviside(scale="learned", initial=0.5) if made_for_weights else inputs
    x = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(3))
    layer = Conv2d(4, 4, 3, padding=1, input_quantizer=inputs,
                   weight_quantizer=copy.deepcopy(quantizer))  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(weight)
    (fed, over_inputs), (levels, over_weights) = inputs.split(x), quantizer.split(weight)
    expected = torch.nn.functional.conv2d(fed, levels, padding=1)
    integers = quantizer.levels == tuple(map(round, quantizer.levels))
    assert not integers or torch.equal(expected, expected.round())
    for scale in (over_inputs, over_weights):
        expected = expected if scale is None else expected * scale.reshape(-1, 1, 1)
    assert layer.bias is not None
    expected = expected + layer.bias.reshape(-1, 1, 1)
    assert torch.equal(layer.weight_levels, levels)
    if integers:
        assert torch.equal(layer(x), expected)
    clone = copy.deepcopy(layer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # A mean over other memory is summed in another order.
    last = clone(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)


@pairs
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_shape_and_gradient(quantizer: ScaledLevels, dtype: torch.dtype) -> None:
    x = sample(dtype).requires_grad_()
    y = quantizer(x)
    y.backward(torch.ones_like(y))
    assert (y.dtype, y.shape) == (dtype, x.shape)
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert torch.isfinite(x.grad).all()


@few
def test_autocast_bf16(quantizer: ScaledLevels) -> None:
    layer = Linear(5, 3, bias=False, input_quantizer=Sign(ste=quantizer.ste),
                   weight_quantizer=copy.deepcopy(quantizer))  # fmt: skip
    exact = layer(sample())
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(sample())
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), exact, rtol=1e-2, atol=1e-2)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


@pairs
def test_float64_layer(quantizer: ScaledLevels) -> None:
    layer = Conv2d(2, 4, 3, weight_quantizer=copy.deepcopy(quantizer), dtype=torch.float64)
    y = layer(torch.randn(2, 2, 5, 5, dtype=torch.float64))
    y.sum().backward()
    assert y.dtype == torch.float64
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float64, name


@pairs
def test_deepcopy_and_save(quantizer: ScaledLevels) -> None:
    clone = copy.deepcopy(quantizer)
    file = io.BytesIO()
    torch.save(quantizer, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (clone, loaded):
        assert torch.equal(other(sample()), quantizer(sample()))
        assert other.ste == quantizer.ste
        assert {id(p) for p in other.parameters()}.isdisjoint(map(id, quantizer.parameters()))


def compiled_equals_eager(quantizer: ScaledLevels, backend: str) -> None:
    torch._dynamo.reset()
    layer = Linear(5, 4, input_quantizer=Sign(ste=quantizer.ste),
                   weight_quantizer=copy.deepcopy(quantizer))  # fmt: skip
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    gradients = []
    for function in (layer, compiled):
        layer.zero_grad()
        x = sample().requires_grad_()
        y = function(x)
        y.square().sum().backward()
        assert x.grad is not None
        found = [parameter.grad for parameter in layer.parameters()]
        gradients.append((y.detach(), x.grad, *(g.clone() for g in found if g is not None)))
    for eager, fast in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, eager)


# torch 2.13's dynamo instantiates Function itself while it traces one.
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
@few
def test_compiles_fullgraph(quantizer: ScaledLevels) -> None:
    compiled_equals_eager(quantizer, "aot_eager")


INDUCTOR: list[ScaledLevels] = [
    Sign(ste=ClippedIdentity()),
    Ternary(ste=SwishSign(), scale="channel"),
    Heaviside(ste=Sigmoid(), scale="learned"),
]


@pytest.mark.filterwarnings("ignore")  # what inductor's own imports warn of is not ours
@pytest.mark.parametrize("quantizer", INDUCTOR, ids=repr)
def test_compiles_with_inductor(quantizer: ScaledLevels) -> None:
    compiled_equals_eager(quantizer, "inductor")
