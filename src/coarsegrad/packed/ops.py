"""The ops of a packed file, one frozen dataclass each, as ``spec.md`` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """Weighted sums over windows; ``padding`` is (top, left, bottom, right).

    ``low`` is what a bit of 1 stands for: -1, or 0. ``bits`` is how many digits a weight has, None
    where it has none: floats, bits and two planes; ``odd`` makes 2v + 1 of the number v.
    """

    op: ClassVar[str] = "conv"
    name: str
    shape: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pad: int = 0
    low: int = -1
    bits: int | None = None
    odd: bool = False


@dataclass(frozen=True)
class Linear:
    """Weighted sums of all features; ``low``, ``bits`` and ``odd`` as in ``Conv``."""

    op: ClassVar[str] = "linear"
    name: str
    shape: Pair
    low: int = -1
    bits: int | None = None
    odd: bool = False


@dataclass(frozen=True)
class Threshold:
    """Bits from sums: +1 where s >= t, or s <= t in flipped channels.

    With ``bits`` of 2 to 8 the integer 0 .. 2^bits - 1: how many of the channel's rows t say so.
    """

    op: ClassVar[str] = "threshold"
    name: str
    bits: int = 1


@dataclass(frozen=True)
class Levels:
    """Floats from bits, through a table of one number for each integer they can be."""

    op: ClassVar[str] = "levels"
    name: str


@dataclass(frozen=True)
class Affine:
    """Floats a * s + b per channel."""

    op: ClassVar[str] = "affine"
    name: str


@dataclass(frozen=True)
class Relu:
    """Floats: s where s > 0, else 0."""

    op: ClassVar[str] = "relu"


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window; padded cells are ignored."""

    op: ClassVar[str] = "maxpool"
    size: Pair
    stride: Pair | None = None
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def step(self) -> Pair:
        """The stride, or the window's size where none is given."""
        return self.stride or self.size


@dataclass(frozen=True)
class AvgPool:
    """The mean of each window, as floats; padded cells are zeros that count."""

    op: ClassVar[str] = "avgpool"
    dilation: ClassVar[Pair] = (1, 1)
    size: Pair
    stride: Pair | None = None
    padding: Pair = (0, 0)

    @property
    def step(self) -> Pair:
        """The stride, or the window's size where none is given."""
        return self.stride or self.size


@dataclass(frozen=True)
class Flatten:
    """All dimensions of a sample into one."""

    op: ClassVar[str] = "flatten"


@dataclass(frozen=True)
class Sign:
    """Bits from floats: -1 where x < 0, else +1."""

    op: ClassVar[str] = "sign"


Op = Conv | Linear | Threshold | Levels | Affine | Relu | MaxPool | AvgPool | Flatten | Sign
"""Any op of a packed file; ``spec.md`` defines each."""
OPS: dict[str, type[Any]] = {kind.op: kind for kind in get_args(Op)}
