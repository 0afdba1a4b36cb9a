"""What a quantizer's two levels are, found by asking it: bits stand for -1 or 0, and for 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from coarsegrad.errors import PackError
from coarsegrad.quantizers import Quantizer

# Maps numbers to whether they become the upper of two levels.
Upper = Callable[[Tensor], Tensor]

_PROBE = (-2.0, -0.6, -1e-30, -0.0, 0.0, 1e-30, 0.6, 2.0)


@final
@dataclass(frozen=True)
class Levels:
    """Two levels, ``low * scale`` and ``scale``, and the numbers that become the upper one.

    Attributes:
        name: where the quantizer is.
        low: -1.0 or 0.0.
        scale: a constant, 1.0 where the quantizer has none.
        upper: True for the numbers above 0, and for 0 as the quantizer has it.
    """

    name: str
    low: float
    scale: float
    upper: Upper

    @property
    def zero_is_upper(self) -> bool:
        """Whether 0 becomes the upper level."""
        return bool(self.upper(torch.zeros(1, 1)))

    @property
    def is_sign(self) -> bool:
        """Whether the levels are -1 and +1."""
        return (self.low, self.scale) == (-1.0, 1.0)

    def reached(self, value: Tensor) -> Tensor:
        """Return where ``value``, which holds the two levels alone, holds the upper one."""
        return value > (self.low + 1) * self.scale / 2

    def through(self, behind: Levels) -> Levels:
        """Return the levels after another quantizer, which must keep the two apart.

        Raises:
            PackError: it makes one level of both, or exchanges them.
        """
        kept = behind.upper(torch.tensor([[self.low * self.scale, self.scale]]))[0].tolist()
        if kept != [False, True]:
            raise PackError(
                f"{behind.name} makes {'one level' if kept[0] == kept[1] else 'the reverse'} of "
                f"the two levels {self.low * self.scale:g} and {self.scale:g} of {self.name}; "
                "remove one of the two quantizers"
            )
        return Levels(behind.name, behind.low, behind.scale, self.upper)


def levels_of(quantizer: object, name: str) -> Levels:
    """Return the levels of a quantizer of activations.

    Raises:
        PackError: its levels are not (-1, 1) or (0, 1), it cuts elsewhere than at 0, or its
            scale depends on the data.
    """
    assert isinstance(quantizer, Quantizer)
    levels = tuple(quantizer.levels)
    if levels not in ((-1.0, 1.0), (0.0, 1.0)):
        raise PackError(
            f"{name} has the levels {levels}; packed activations need (-1, 1) or (0, 1): use "
            "Sign or Heaviside"
        )
    probe = torch.tensor([_PROBE])
    found, scale = _split(quantizer, probe)
    low, high = (torch.where(probe < 0, levels[0], level) for level in levels)
    low, high = torch.where(probe > 0, levels[1], low), torch.where(probe > 0, levels[1], high)
    if not (torch.equal(found, low) or torch.equal(found, high)):
        raise PackError(
            f"{name} ({type(quantizer).__name__}) cuts elsewhere than at 0; packed activations "
            "are cut there: move the cut into the batch norm before it"
        )
    return Levels(
        name, levels[0], _constant(quantizer, scale, name),
        lambda x: _split(quantizer, x)[0] == levels[1],
    )  # fmt: skip


def _split(quantizer: Quantizer, x: Tensor) -> tuple[Tensor, Tensor | None]:
    with torch.no_grad():
        return quantizer.split(x)


def _constant(quantizer: Quantizer, scale: Tensor | None, name: str) -> float:
    """Return the scale if it is one number for all inputs."""
    if scale is None:
        return 1.0
    other = _split(quantizer, 3 * torch.tensor([_PROBE]).flip(1))[1]
    if scale.numel() != 1 or other is None or not torch.equal(scale, other):
        raise PackError(
            f"{name} has a scale that depends on the data, which no packed file can hold; "
            "use scale='none', the batch norm that follows absorbs it, or scale='learned'"
        )
    return float(scale)
