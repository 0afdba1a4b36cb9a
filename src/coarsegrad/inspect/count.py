"""What a call of a module costs: parameters and multiply-adds, by precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from coarsegrad.inspect.watch import Call
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer


@final
@dataclass(frozen=True)
class Counts:
    """Numbers of things of 1 bit, of 2 to 31 bits, and of floats.

    >>> Counts(one_bit=8) + Counts(floats=2)
    Counts(one_bit=8, k_bit=0, floats=2)
    """

    one_bit: int = 0
    k_bit: int = 0
    floats: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.one_bit + self.k_bit + self.floats

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.one_bit + other.one_bit, self.k_bit + other.k_bit, self.floats + other.floats
        )

    def __floordiv__(self, number: int) -> Counts:
        return Counts(self.one_bit // number, self.k_bit // number, self.floats // number)


NOTHING = Counts()


def of_bits(number: int, bits: int | None) -> Counts:
    """Return ``number`` things of so many bits; None stands for floats."""
    if bits is None:
        return Counts(floats=number)
    return Counts(one_bit=number) if bits == 1 else Counts(k_bit=number)


def weight_bits(module: nn.Module) -> int | None:
    """Return the bits of a layer's weights, or None for floats."""
    quantizer = module.weight_quantizer if isinstance(module, LatentWeight) else None
    return None if quantizer is None else int(quantizer.bits)


def parameters(module: nn.Module, seen: set[Tensor]) -> Counts:
    """Count the parameters of a module that are not in ``seen``, and put them there."""
    latent = [getattr(module, name) for name in getattr(module, "latent_names", ())]
    bits = weight_bits(module)
    total = NOTHING
    for parameter in module.parameters(recurse=isinstance(module, (LatentWeight, Quantizer))):
        if parameter not in seen:
            is_latent = any(parameter is other for other in latent)
            total += of_bits(parameter.numel(), bits if is_latent else None)
        seen.add(parameter)
    return total


def multiply_adds(call: Call, input_bits: int | None) -> Counts:
    """Return the multiply-adds of one sample, at the precision of the wider operand.

    Padded cells count. Layers other than dense and convolutional ones count nothing.
    """
    module = call.module
    if call.input is None or call.output is None or not call.output:
        return NOTHING
    if isinstance(module, nn.Linear):
        number = math.prod(call.output) * module.in_features
    elif isinstance(module, _ConvTransposeNd):
        per_input = module.out_channels // module.groups * math.prod(module.kernel_size)
        number = math.prod(call.input) * per_input
    elif isinstance(module, _ConvNd):
        per_output = module.in_channels // module.groups * math.prod(module.kernel_size)
        number = math.prod(call.output) * per_output
    else:
        return NOTHING
    operands = (input_bits, weight_bits(module))
    wider = None if None in operands else max(b for b in operands if b is not None)
    return of_bits(number, wider)
