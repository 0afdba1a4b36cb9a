"""One layer or pool: its op in a packed file, its stored weights, and what it does to its sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coarsegrad.deploy.fold import Tail
from coarsegrad.errors import PackError
from coarsegrad.nn import Conv2d, LatentWeight, NormalizedBatchNorm
from coarsegrad.packed import AvgPool, Conv, Linear, MaxPool, pack_bits, pack_digits, pack_ternary


def weight_of(module: nn.Module) -> Tensor:
    """Return the float weight of a layer, latent or not."""
    assert isinstance(module.weight, Tensor)
    return module.weight.detach()


class Stored(NamedTuple):
    """Weights as a packed file holds them, and the keys that say so."""

    array: NDArray[Any]
    bits: int | None = None
    odd: bool = False


def stored_weight(module: nn.Module, name: str) -> Stored:
    """Return a layer's weights: bits, two planes, binary digits, or float32.

    Raises:
        PackError: quantized weights on levels that are no integers of up to 8 bits.
    """
    weight = weight_of(module)
    quantizer = module.weight_quantizer if isinstance(module, LatentWeight) else None
    if quantizer is None:
        return Stored(weight.numpy().copy())
    allowed = set(quantizer.levels)
    bits, odd = _digits_of(allowed)
    if not 1 <= bits <= 8:
        raise PackError(
            f"{name} has weights of the levels {_listed(quantizer.levels)}; packed weights need "
            "(-1, 1), (-1, 0, 1), integers in -127 .. 127, odd ones in -255 .. 255, or float"
        )
    with torch.no_grad():
        levels = quantizer.split(weight)[0].numpy()
    if allowed <= {-1.0, 0.0, 1.0}:
        return Stored(pack_ternary(levels) if 0.0 in allowed else pack_bits(levels))
    return Stored(pack_digits(levels, bits, odd=odd), bits, odd)


def _digits_of(levels: set[float]) -> tuple[int, bool]:
    """Return how many binary digits hold these levels, and whether as odd numbers; 0: none do."""
    if not all(level.is_integer() for level in levels):
        return 0, False
    largest = int(max(map(abs, levels)))
    if all(level % 2 == 1 for level in levels):
        return largest.bit_length(), True
    return largest.bit_length() + 1, False


def _listed(levels: tuple[float, ...]) -> str:
    shown = tuple(levels) if len(levels) <= 4 else (*levels[:2], "..", levels[-1])
    return "(" + ", ".join(map(str, shown)) + ")"


def scales_of(module: nn.Module) -> list[Tensor]:
    """Return the scales that multiply a layer's sum, in the order in which its forward does."""
    if not isinstance(module, LatentWeight):
        return []
    scales: list[Tensor | None] = []
    with torch.no_grad():
        if module.input_quantizer is not None:
            # A constant, which segments have made sure of.
            scales.append(module.input_quantizer.split(torch.ones(1, 1))[1])
        if module.weight_quantizer is not None:
            scales.append(module.weight_quantizer.split(weight_of(module))[1])
    return [scale.detach() for scale in scales if scale is not None]


def bias_of(module: nn.Module) -> Tensor | None:
    """Return a layer's bias."""
    return module.bias.detach() if isinstance(module.bias, Tensor) else None


def affine_of(module: nn.Module) -> Tail:
    """Return what a layer does to its sum: times its scales, plus its bias, as its forward does."""
    scales, bias = scales_of(module), bias_of(module)

    def tail(sums: Tensor) -> Tensor:
        shape = (-1, *(1,) * (sums.dim() - 2))
        for scale in scales:
            sums = sums * scale.reshape(shape)
        return sums if bias is None else sums + bias.reshape(shape)

    return tail


def linear_op(module: nn.Module, name: str, low: int, weights: Stored) -> Linear:
    """Return the op of a dense layer."""
    out, features = weight_of(module).shape
    return Linear(name, (int(out), int(features)), low, weights.bits, weights.odd)


def conv_op(module: nn.Conv2d, name: str, low: int, weights: Stored) -> Conv:
    """Return the op of a convolution.

    Raises:
        PackError: a padding that no packed file holds.
    """
    if module.padding_mode != "zeros":
        raise PackError(
            f"{name} pads by {module.padding_mode!r}; packed convolutions pad with 0, 1 or -1: "
            "use padding_mode='zeros' and pad_value"
        )
    left, right, top, bottom = module._reversed_padding_repeated_twice
    out, per_group, height, width = module.weight.shape
    return Conv(
        name,
        (out, per_group, height, width),
        stride=_pair(module.stride),
        padding=(top, left, bottom, right),
        dilation=_pair(module.dilation),
        groups=module.groups,
        pad=int(module.pad_value) if isinstance(module, Conv2d) else 0,
        low=low,
        bits=weights.bits,
        odd=weights.odd,
    )


def pool_op(module: nn.Module, name: str) -> MaxPool | AvgPool:
    """Return the op of a pool.

    Raises:
        PackError: settings that no packed file holds.
    """
    assert isinstance(module, (nn.MaxPool2d, nn.AvgPool2d))
    size, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
    step = None if stride == size else stride
    if isinstance(module, nn.MaxPool2d):
        if module.ceil_mode or module.return_indices:
            raise PackError(f"{name} has ceil_mode or return_indices, which have no packed form")
        return MaxPool(size, step, padding, _pair(module.dilation))
    if module.ceil_mode or module.divisor_override is not None:
        raise PackError(f"{name} has ceil_mode or divisor_override, which have no packed form")
    if padding != (0, 0) and not module.count_include_pad:
        raise PackError(
            f"{name} has count_include_pad=False; packed averages count the padded zeros: use "
            "padding=0 or count_include_pad=True"
        )
    return AvgPool(size, step, padding)


def norm_terms(module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch norm's float64 (slope, shift, sum of the sizes that the shift is made of)."""
    assert isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, NormalizedBatchNorm))
    assert module.running_var is not None
    assert module.running_mean is not None
    a = (module.running_var.double() + module.eps).rsqrt()
    a = a if module.weight is None else a * module.weight.detach().double()
    beta = torch.zeros(1) if module.bias is None else module.bias.detach().double()
    mean = module.running_mean.double() * a
    return a, beta - mean, beta.abs() + mean.abs()


def layer_terms(module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return a layer's float64 (scale, bias, size of the bias), one per output channel."""
    channels = weight_of(module).shape[0]
    scale = torch.ones(channels, dtype=torch.float64)
    for factor in scales_of(module):
        scale = scale * factor.double()
    bias = bias_of(module)
    shift = torch.zeros(channels, dtype=torch.float64) if bias is None else bias.double()
    return scale, shift, shift.abs()


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])
