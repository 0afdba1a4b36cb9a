"""What a quantizer's levels are, found by asking it, and which packed bits stand for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from coarsegrad.errors import PackError
from coarsegrad.quantizers import Quantizer

# Maps numbers to which level they become, counted from the lowest: int64, 0 .. 2^bits - 1.
Digits = Callable[[Tensor], Tensor]

_SIZES = (0.0, 1e-30, 1e-6, 1e-3, 0.03, 0.3, 0.6, 1.0, 2.0, 8.0, 64.0, 1e3, 1e6)
_PROBE = (*(-size for size in reversed(_SIZES)), *_SIZES)
_MOST_BITS = 8


@final
@dataclass(frozen=True)
class Levels:
    """What the cells of a packed value stand for, and the numbers that become each of them.

    Attributes:
        name: where the quantizer is.
        bits: of a cell, which is one of 2^bits levels.
        table: the levels as ``split`` has them, without the scale; float32, (2^bits,).
        low: what the lowest level is to a layer: -1.0, or 0.0; None where the levels are not
            (-1, 1) or 0, 1, .., so that layers need them as floats.
        scale: a constant that multiplies the levels; 1.0 where the quantizer has none.
        digits: the level that numbers become.
    """

    name: str
    bits: int
    table: Tensor
    low: float | None
    scale: float
    digits: Digits

    @property
    def values(self) -> Tensor:
        """What the quantizer alone returns: its levels times its scale, float32 (2^bits,)."""
        return self.table * self.scale

    @property
    def cuts_as_a_sign(self) -> bool:
        """Whether all below 0 becomes the lower of two levels, and 0 and all above the upper."""
        probe = torch.tensor([_PROBE])
        return self.bits == 1 and torch.equal(self.digits(probe), (probe >= 0).long())

    @property
    def zero_is_highest(self) -> bool:
        """Whether 0 and all above becomes one level, so that a ReLU ahead leaves nothing else."""
        return int(self.digits(torch.zeros(1, 1))) == len(self.table) - 1

    @property
    def is_sign(self) -> bool:
        """Whether the levels are -1 and +1."""
        return (self.bits, self.low, self.scale) == (1, -1.0, 1.0)

    def reached(self, value: Tensor) -> Tensor:
        """Return the levels, counted from the lowest, of ``value``, which holds them alone."""
        return torch.bucketize(value.contiguous(), (self.values[1:] + self.values[:-1]) / 2)

    def through(self, behind: Levels) -> Levels:
        """Return the levels after another quantizer, which must not exchange or merge all of them.

        Raises:
            PackError: it makes one level of all, or reverses them.
        """
        kept = behind.digits(self.values[None])[0]
        if kept[0] >= kept[-1]:
            listed = " and ".join(f"{value:g}" for value in self.values[[0, -1]].tolist())
            count = "two" if self.bits == 1 else f"{len(self.values)}"
            raise PackError(
                f"{behind.name} makes {'one level' if kept[0] == kept[-1] else 'the reverse'} of "
                f"the {count} levels {listed} of {self.name}; remove one of the two quantizers"
            )
        return Levels(
            behind.name, behind.bits, behind.table, behind.low, behind.scale,
            lambda x: kept[self.digits(x)],
        )  # fmt: skip


def levels_of(quantizer: object, name: str) -> Levels:
    """Return the levels of a quantizer of activations.

    Raises:
        PackError: it has not 2, 4, .. or 256 rising levels, is not monotone, or its scale or
            levels depend on the data.
    """
    assert isinstance(quantizer, Quantizer)
    levels = tuple(float(level) for level in quantizer.levels)
    bits = (len(levels) - 1).bit_length()
    rises = all(below < above for below, above in pairwise(levels))
    if not (1 <= bits <= _MOST_BITS and len(levels) == 2**bits and rises):
        raise PackError(
            f"{name} has the levels {_listed(levels)}; packed activations need 2, 4, 8, .. or 256 "
            "rising levels: use Sign, Heaviside or QuantReLU"
        )
    known = torch.tensor(levels)
    middles = (known[1:] + known[:-1]) / 2

    def digits(x: Tensor) -> Tensor:
        return torch.bucketize(_split(quantizer, x)[0].contiguous(), middles)

    probe = torch.tensor([_PROBE])
    found, scale, table = digits(probe), _constant(quantizer, name), known
    integers = levels in ((-1.0, 1.0), tuple(map(float, range(len(levels)))))
    if not integers:
        # A level that is no integer may be off by a rounding from what is stated: ask for it.
        table = _split(quantizer, known[None] * scale)[0][0]
    on_levels = torch.equal(table[found], _split(quantizer, probe)[0])
    if not on_levels or bool((found.diff() < 0).any()) or bool((table.diff() <= 0).any()):
        raise PackError(
            f"{name} ({type(quantizer).__name__}) is no rising staircase onto its levels "
            f"{_listed(levels)}, as packed activations are; use Sign, Heaviside or QuantReLU"
        )
    return Levels(name, bits, table, levels[0] if integers else None, scale, digits)


def _split(quantizer: Quantizer, x: Tensor) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        return quantizer.split(x)


def _constant(quantizer: Quantizer, name: str) -> float:
    """Return the scale if it is one number for all inputs."""
    probe = torch.tensor([_PROBE])
    scale, other = (_split(quantizer, x)[1] for x in (probe, 0.5 * probe[:, 3:].flip(1)))
    if scale is None and other is None:
        return 1.0
    if scale is None or other is None or scale.numel() != 1 or not torch.equal(scale, other):
        raise PackError(
            f"{name} has a scale that depends on the data, which no packed file can hold; "
            "use scale='none', the batch norm that follows absorbs it, or scale='learned'"
        )
    return float(scale)


def _listed(levels: tuple[float, ...]) -> str:
    if len(levels) <= 4:
        return str(levels)
    return f"({levels[0]:g}, {levels[1]:g}, .., {levels[-1]:g})"
