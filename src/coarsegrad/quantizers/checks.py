"""What quantizers of several bits refuse in their arguments and inputs."""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from coarsegrad.errors import ArgumentError
from coarsegrad.ste import CoarseDerivative


class CoarseGradientWarning(UserWarning):
    """A coarse derivative with which training is known to fail."""


def check_bits(name: str, bits: object) -> int:
    """Return ``bits``, an int in 1..8.

    Raises:
        ValueError: it is not.
    """
    if type(bits) is not int or not 1 <= bits <= 8:
        raise ValueError(
            f"{name} needs bits to be an int in 1..8, got {bits!r}; leave a value float for more"
        )
    return bits


def check_step(name: str, step: object) -> float:
    """Return ``step`` as a float.

    Raises:
        ValueError: it is not a finite number > 0.
    """
    is_number = isinstance(step, (int, float)) and not isinstance(step, bool)
    if not is_number or not (0 < float(step) < math.inf):  # type: ignore[arg-type]
        raise ValueError(
            f"{name} needs step to be a finite number > 0, or None for the best one, got {step!r}"
        )
    return float(step)  # type: ignore[arg-type]


def check_ste(name: str, ste: object, example: str) -> CoarseDerivative:
    """Return ``ste``, a coarse derivative.

    Raises:
        ArgumentError: it is none; an object without ``assumption2`` cannot be judged.
    """
    if not isinstance(ste, CoarseDerivative):
        raise ArgumentError(
            f"{name} needs ste to be an instance from coarsegrad.ste, or of another final subclass "
            f"of CoarseDerivative, with proxy, derivative and assumption2, got {ste!r}; "
            f"for example {example}"
        )
    return ste


def check_floating(name: str, x: Tensor) -> None:
    """Raise ArgumentError unless x is floating point."""
    if not x.is_floating_point():
        raise ArgumentError(
            f"{name} needs a floating point tensor, got {x.dtype}; convert it with x.float()"
        )


def warn_of_assumption2(name: str, ste: CoarseDerivative, top: int) -> None:
    """Warn if Assumption 2 fails on the quantizer's own range, [-top, top] in steps.

    Python shows a warning once for each line of code that it comes from.
    """
    found = ste.assumption2(float(top))
    if found.holds:
        return
    # Which half of the assumption fails: g(x) = 0 for x <= 0, or inf g' > 0.
    reason = (
        f"inf g' = {found.delta:g} on (0, {top}]: no gradient from the upper levels"
        if ste.vanishes_below_zero
        else "g is not 0 for x <= 0: the gradient points where the quantized ReLU is flat"
    )
    warnings.warn(
        f"{name}(ste={ste!r}) fails Assumption 2 of Long, Yin, Xin 2020 ({reason}); in their "
        "setting such a coarse gradient does not reach zero loss. Use ReLU(), ReverseExp(), "
        "LogTailedReLU() or ClippedReLU() from coarsegrad.ste",
        CoarseGradientWarning,
        stacklevel=3,
    )
