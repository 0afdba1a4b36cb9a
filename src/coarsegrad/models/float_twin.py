"""The float twin of a binary network: what its accuracy is measured against."""

from __future__ import annotations

import copy
from typing import cast

from torch import nn

from coarsegrad.nn import Conv2d, LatentWeight, Linear
from coarsegrad.quantizers import Quantizer


def float_twin(net: nn.Module) -> nn.Module:
    """Return a copy of the network on float32 weights and activations, of the same shape.

    Quantized layers become torch's own, with copies of the latent weights and biases; an input
    quantizer, or one that stands alone, becomes a ReLU. Everything else is copied as it is. Cells
    padded by +-1 behind a quantizer hold its ReLU, 1 or 0. The layers stay where they were:
    ``net[3]`` is ``Sequential(ReLU, Conv2d)`` if it had an input quantizer.

    Args:
        net: any module; it stays as it was.

    >>> from coarsegrad.models import mlp
    >>> float_twin(mlp(width=8))[3]
    Sequential(
      (0): ReLU()
      (1): Linear(in_features=8, out_features=8, bias=False)
    )
    """
    return _replace(copy.deepcopy(net), {})


def _replace(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return what stands for the module; ``made`` keeps one layer one, if it is used twice."""
    if module in made:
        return made[module]
    if isinstance(module, LatentWeight):
        made[module] = _layer(module)
    elif isinstance(module, Quantizer):
        made[module] = nn.ReLU()
    else:
        made[module] = module
        for name, child in list(module._modules.items()):  # named_children leaves out the second
            if child is not None:
                setattr(module, name, _replace(child, made))
    return made[module]


def _layer(layer: LatentWeight) -> nn.Module:
    plain: list[nn.Module] = []
    if layer.input_quantizer is not None:
        plain.append(nn.ReLU())
    if isinstance(layer, Conv2d):
        pad = layer.pad_value if layer.input_quantizer is None else max(layer.pad_value, 0.0)
        plain += _convolution(layer, pad)
    else:
        plain.append(_dense(cast(Linear, layer)))
    for name, parameter in layer.named_parameters(recurse=False):
        mine = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        setattr(plain[-1], name, mine)
    plain[-1].train(layer.training)
    return plain[0] if len(plain) == 1 else nn.Sequential(*plain)


def _convolution(layer: Conv2d, pad: float) -> list[nn.Module]:
    padded = pad != 0 and layer.padding not in (0, (0, 0), "valid")
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        0 if padded else layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
        layer.weight.device,
        layer.weight.dtype,
    )
    if not padded:
        return [conv]
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    return [nn.ConstantPad2d((left, right, top, bottom), pad), conv]


def _dense(layer: Linear) -> nn.Linear:
    return nn.Linear(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        layer.weight.device,
        layer.weight.dtype,
    )
