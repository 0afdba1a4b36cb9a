"""Quantizers by the field's short names: W1A2 is 1-bit weights and 2-bit activations."""

from __future__ import annotations

import re
from typing import NamedTuple

from coarsegrad.quantizers.protocol import Quantizer
from coarsegrad.quantizers.quant_relu import QuantReLU
from coarsegrad.quantizers.quant_weight import QuantWeight
from coarsegrad.quantizers.sign import Sign
from coarsegrad.ste import ClippedIdentity, CoarseDerivative, Identity


class Precision(NamedTuple):
    """The quantizers of a layer's weights and of its inputs; None leaves them float."""

    weights: Quantizer | None
    inputs: Quantizer | None


def precision(name: str, ste: CoarseDerivative | None = None) -> Precision:
    """Return new quantizers for ``WxAy``: x-bit weights and y-bit activations, 1 to 8 or 32.

    Weights: 1 bit is ``Sign(ste=Identity())``, 2 to 8 ``QuantWeight(bits)`` with a step per output
    channel, 32 float. Activations: 1 bit is ``Sign``, 2 to 8 ``QuantReLU(bits)``, 32 float.

    Args:
        name: such as ``"W1A2"``.
        ste: the coarse derivative of the activations; ``ClippedIdentity()`` for signs and
            ``ReLU()`` for more bits unless given.

    Raises:
        ValueError: another form of name, or bits that are neither 1 to 8 nor 32.

    >>> precision("W1A32")
    Precision(weights=Sign(ste=Identity(), scale='none'), inputs=None)
    """
    found = re.fullmatch(r"W(\d+)A(\d+)", name) if isinstance(name, str) else None
    bits = [int(part) for part in found.groups()] if found else []
    if not bits or any(part != 32 and not 1 <= part <= 8 for part in bits):
        raise ValueError(
            f"precision needs a name such as 'W1A2', with 1 to 8 bits or 32 for float, got {name!r}"
        )
    return Precision(_weights(bits[0]), _inputs(bits[1], ste))


def _weights(bits: int) -> Quantizer | None:
    if bits == 32:
        return None
    return Sign(ste=Identity()) if bits == 1 else QuantWeight(bits)


def _inputs(bits: int, ste: CoarseDerivative | None) -> Quantizer | None:
    if bits == 32:
        return None
    if bits == 1:
        return Sign(ste=ClippedIdentity() if ste is None else ste)
    return QuantReLU(bits, ste=ste)
