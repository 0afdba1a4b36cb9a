"""The ops of a packed file, one frozen dataclass each, as ``spec.md`` lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv:
    """Weighted sums over windows; ``padding`` is (top, left, bottom, right)."""

    op: ClassVar[str] = "conv"
    name: str
    shape: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    pad: int = 0


@dataclass(frozen=True)
class Linear:
    """Weighted sums of all features."""

    op: ClassVar[str] = "linear"
    name: str
    shape: Pair


@dataclass(frozen=True)
class Threshold:
    """Bits from sums: +1 where s >= t, or s <= t in flipped channels."""

    op: ClassVar[str] = "threshold"
    name: str


@dataclass(frozen=True)
class Affine:
    """Floats a * s + b per channel."""

    op: ClassVar[str] = "affine"
    name: str


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
class Flatten:
    """All dimensions of a sample into one."""

    op: ClassVar[str] = "flatten"


@dataclass(frozen=True)
class Sign:
    """Bits from floats: -1 where x < 0, else +1."""

    op: ClassVar[str] = "sign"


Op = Conv | Linear | Threshold | Affine | MaxPool | Flatten | Sign
"""Any op of a packed file; ``spec.md`` defines each."""
OPS: dict[str, type[Any]] = {
    kind.op: kind for kind in (Conv, Linear, Threshold, Affine, MaxPool, Flatten, Sign)
}
