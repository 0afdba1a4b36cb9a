from __future__ import annotations

import pytest

from coarsegrad.quantizers import QuantReLU, QuantWeight, Sign, precision
from coarsegrad.ste import ClippedIdentity, ReLU, ReverseExp, Triangle


@pytest.mark.parametrize(
    ("name", "weights", "inputs"),
    [("W1A1", 1, 1), ("W1A2", 1, 2), ("W2A2", 2, 2), ("W4A4", 4, 4), ("W8A8", 8, 8),
     ("W1A32", 1, None), ("W32A2", None, 2)],
)  # fmt: skip
def test_names(name: str, weights: int | None, inputs: int | None) -> None:
    found = precision(name)
    assert getattr(found.weights, "bits", None) == weights
    assert getattr(found.inputs, "bits", None) == inputs
    if weights is not None:
        assert isinstance(found.weights, Sign if weights == 1 else QuantWeight)
    if inputs is not None:
        assert isinstance(found.inputs, Sign if inputs == 1 else QuantReLU)


def test_the_ste_is_that_of_the_activations() -> None:
    assert precision("W1A1").inputs.ste == ClippedIdentity()
    assert precision("W1A1", Triangle()).inputs.ste == Triangle()
    assert precision("W1A2").inputs.ste == ReLU()
    assert precision("W1A2", ReverseExp()).inputs.ste == ReverseExp(3)


@pytest.mark.parametrize("name", ["", "W1", "A2", "w1a2", "W9A2", "W1A0", "W1A16", "W1A2 ", 12])
def test_refused(name) -> None:
    with pytest.raises(ValueError, match="needs a name such as 'W1A2'"):
        precision(name)
