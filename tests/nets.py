"""Random small binary networks for tests: every packable order, odd sizes, both signs of gamma."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import torch
from torch import nn

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
from coarsegrad.ste import ClippedIdentity


def weights(scale: str) -> Sign:
    return Sign(scale=scale)  # type: ignore[arg-type]


def drawn_weights(
    draw: st.DrawFn, outputs: int, *, positive: bool, low_bits: bool = False
) -> Quantizer:
    """Signs or ternary levels with any scale; ``positive`` holds learned scales above 0.

    With ``low_bits`` also integers of up to 8 bits.
    """
    if low_bits and draw(st.booleans()):
        bits = draw(st.integers(1, 8))
        scale = draw(st.sampled_from(["tensor", "channel", None]))
        return DoReFa(bits) if scale is None else QuantWeight(bits, scale)  # type: ignore[arg-type]
    kind = draw(st.sampled_from([Sign, Sign, Ternary]))
    scale = draw(st.sampled_from(["none", "tensor", "channel", "learned"]))
    threshold = {} if kind is Sign else {"threshold": draw(st.sampled_from(["twn", 0.02]))}
    if scale != "learned":
        return kind(scale=scale, **threshold)  # type: ignore[arg-type]
    channels = draw(st.sampled_from([None, outputs]))
    quantizer = kind(scale="learned", channels=channels, **threshold)  # type: ignore[arg-type]
    return learned(draw, quantizer, positive)


def drawn_inputs(draw: st.DrawFn, *, positive: bool, low_bits: bool = False) -> Quantizer:
    """Signs or 0 and 1, a constant scale among them; with ``low_bits`` also more levels."""
    if low_bits and draw(st.booleans()):
        # With these steps a sign ahead leaves two levels apart.
        step = draw(st.sampled_from([0.25, 0.7, 1.0, 1.5]))
        rounding = draw(st.sampled_from(["ceil", "midpoint", "round"]))
        return QuantReLU(draw(st.integers(1, 8)), step, levels=rounding)  # type: ignore[arg-type]
    kind = draw(st.sampled_from([Sign, Sign, Heaviside]))
    if draw(st.integers(0, 3)):
        return kind()
    return learned(draw, kind(scale="learned"), positive)


def learned(draw: st.DrawFn, quantizer: Any, positive: bool) -> Any:
    """Give a quantizer learned scales, 0 and negative ones among them unless ``positive``."""
    allowed = [0.3, 1.0, 1.7] if positive else [0.3, 1.0, -1.7, 0.0]
    values = [draw(st.sampled_from(allowed)) for _ in range(quantizer.alpha.numel())]
    quantizer.alpha.data = torch.tensor(values).reshape(quantizer.alpha.shape)
    return quantizer


def signs() -> Sign:
    return Sign(ste=ClippedIdentity())


def randomise_norms(net: nn.Module, generator: torch.Generator) -> None:
    """Statistics and slopes that make exact zeros, negative and zero gammas common."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            n = module.num_features
            pick = torch.randint(0, 4, (n,), generator=generator)
            gamma = torch.randn(n, generator=generator)
            slopes = torch.stack([gamma.abs(), -gamma.abs(), gamma, torch.zeros(n)])
            # Small integers as means and zero shifts: pre-activations that are exactly zero.
            assert module.running_mean is not None
            assert module.running_var is not None
            mean = torch.randint(-3, 4, (n,), generator=generator).float()
            module.running_mean.copy_(mean)
            module.running_var.copy_(torch.rand(n, generator=generator) * 20 + 0.1)
            shift = torch.randn(n, generator=generator)
            shift = torch.where(torch.rand(n, generator=generator) < 0.5, 0.0, shift)
            if module.affine:
                module.weight.data = slopes.gather(0, pick[None])[0]
                module.bias.data = shift


@st.composite
def networks(draw: st.DrawFn, *, low_bits: bool = False) -> tuple[nn.Sequential, torch.Tensor]:
    """Return a random chain and a batch of inputs on a grid, so that float sums are exact.

    With ``low_bits`` there are activations and weights of up to 8 bits among the 1-bit ones.
    """
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    channels, size = draw(st.integers(1, 5)), draw(st.integers(6, 11))
    width = draw(st.integers(size - 1, size + 1))
    # On multiples of 1/128 below 1 in size, sums of few terms need no rounding in float32.
    x = torch.randint(-128, 128, (2, channels, size, width), generator=generator) / 128
    layers: list[nn.Module] = []
    shape = (channels, size, width)
    state = torch.get_rng_state()
    torch.manual_seed(draw(st.integers(0, 2**31)))
    try:
        for index in range(draw(st.integers(1, 3))):
            block, shape = draw(_conv_block(shape, first=index == 0, low_bits=low_bits))
            layers += block
        layers.append(nn.Flatten())
        features = shape[0] * shape[1] * shape[2]
        if draw(st.booleans()):
            hidden = draw(st.integers(1, 9))
            layers += [_dense(draw, features, hidden, low_bits), nn.BatchNorm1d(hidden)]
            features = hidden
        classes = draw(st.integers(1, 5))
        layers += [_dense(draw, features, classes, low_bits), nn.BatchNorm1d(classes)]
    finally:
        torch.set_rng_state(state)
    net = nn.Sequential(*layers)
    randomise_norms(net, generator)
    return net, x


@st.composite
def float_tails(draw: st.DrawFn) -> tuple[nn.Sequential, torch.Tensor]:
    """Return a binary convolution, then floats: norms, ReLUs and pools in any order and number."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    height, width, out = (draw(st.integers(low, 9)) for low in (5, 5, 1))
    x = torch.randint(-128, 128, (4, 3, height, width), generator=generator) / 128
    state = torch.get_rng_state()
    torch.manual_seed(draw(st.integers(0, 2**31)))
    try:
        first = Conv2d(3, out, 3, padding=1, input_quantizer=drawn_inputs(draw, positive=False),
                       weight_quantizer=drawn_weights(draw, out, positive=False))  # fmt: skip
        layers: list[nn.Module] = [first]
        for _ in range(draw(st.integers(1, 5))):
            layers.append(_float_step(draw, out, min(height, width)))
            height, width = _after(height, width, layers[-1], out)
        layers += [nn.AdaptiveAvgPool2d(1)] if draw(st.booleans()) else []
        features = out * (1 if isinstance(layers[-1], nn.AdaptiveAvgPool2d) else height * width)
        layers += [nn.Flatten(), nn.Linear(features, 3)]
    finally:
        torch.set_rng_state(state)
    net = nn.Sequential(*layers)
    randomise_norms(net, generator)
    return net.eval(), x


def _float_step(draw: st.DrawFn, channels: int, smallest: int) -> nn.Module:
    size = draw(st.integers(1, min(3, smallest)))
    geometry = (size, draw(st.integers(1, 2)), draw(st.integers(0, size // 2)))
    kind = draw(st.sampled_from(["norm", "relu", "max", "average"]))
    if kind == "norm":
        return nn.BatchNorm2d(channels)
    if kind == "relu":
        return nn.ReLU(inplace=draw(st.booleans()))
    return nn.MaxPool2d(*geometry) if kind == "max" else nn.AvgPool2d(*geometry)


def _dense(draw: st.DrawFn, inputs: int, outputs: int, low_bits: bool) -> Linear:
    return Linear(
        inputs,
        outputs,
        bias=draw(st.booleans()),
        input_quantizer=drawn_inputs(draw, positive=False, low_bits=low_bits),
        weight_quantizer=drawn_weights(draw, outputs, positive=False, low_bits=low_bits),
    )


@st.composite
def _conv_block(
    draw: st.DrawFn, shape: tuple[int, int, int], *, first: bool, low_bits: bool
) -> tuple[list[nn.Module], tuple[int, int, int]]:
    channels, height, width = shape
    groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
    out = groups * draw(st.integers(1, 7))
    kernel = (min(height, draw(st.integers(1, 3))), min(width, draw(st.integers(1, 3))))
    roomy = height > 2 * (kernel[0] - 1) and width > 2 * (kernel[1] - 1)
    dilation = draw(st.integers(1, 2)) if roomy else 1
    padding = tuple(draw(st.integers(0, dilation * (k - 1))) for k in kernel)
    pooled_first = draw(st.booleans())
    inputs: Quantizer | None = None
    if not first or draw(st.booleans()):
        inputs = drawn_inputs(draw, positive=pooled_first, low_bits=low_bits)
    pads = [0, 1, -1] if inputs is None else [0, *inputs.levels]
    if len(pads) > 3 and inputs is not None:
        pads = [0]
    conv = Conv2d(
        channels,
        out,
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        pad_value=draw(st.sampled_from(pads)),
        input_quantizer=inputs,
        # A scale multiplies the finished sum, so that sums on the grid stay exact.
        weight_quantizer=drawn_weights(draw, out, positive=pooled_first, low_bits=low_bits),
    )
    height, width = _after(height, width, conv)
    block: list[nn.Module] = [conv, nn.BatchNorm2d(out)]
    if draw(st.integers(0, 3)) == 0:
        block.insert(1, nn.ReLU())
    if draw(st.integers(0, 3)) == 0:
        block.append(nn.BatchNorm2d(out))
    if min(height, width) >= 2 and draw(st.booleans()):
        pool = nn.MaxPool2d(2, stride=draw(st.sampled_from([1, 2])),
                            padding=draw(st.sampled_from([0, 1])))  # fmt: skip
        block.insert(1 if pooled_first else len(block), pool)
        height, width = _after(height, width, pool)
    if draw(st.integers(0, 3)) == 0:
        block.append(signs())
    return block, (out, height, width)


def _after(height: int, width: int, layer: nn.Module, channels: int = 1) -> tuple[int, int]:
    channels = layer.in_channels if isinstance(layer, nn.Conv2d) else channels
    layer.eval()
    with torch.no_grad():
        y = layer(torch.zeros(1, channels, height, width))
    return y.shape[2], y.shape[3]
