from __future__ import annotations

import pytest
import torch

from coarsegrad.quantizers import QuantReLU, gaussian_step, half_gaussian_error, half_gaussian_step
from coarsegrad.quantizers.minimum import minimum

# ../shared/spec/coarse-gradient.md, A6: step and error for 1 to 4 bits
TABLE = {
    "ceil": ([0.7978846, 0.4865702, 0.2893098, 0.1666407], [0.3634, 0.1232, 0.0388, 0.01184]),
    "midpoint": ([0.7978846, 0.5388119, 0.3217289, 0.1842433], [0.3634, 0.0864, 0.0204, 0.00503]),
    "round": ([1.2240064, 0.6507697, 0.3534113, 0.1932485], [0.1902, 0.0469, 0.0129, 0.00369]),
}


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("rounding", TABLE)
def test_half_gaussian_table(rounding, bits: int) -> None:
    steps, errors = TABLE[rounding]
    step = half_gaussian_step(bits, rounding)
    assert step == pytest.approx(steps[bits - 1], abs=1e-6)
    assert half_gaussian_error(step, bits, rounding) == pytest.approx(errors[bits - 1], rel=2e-3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("rounding", TABLE)
def test_the_error_is_that_of_the_quantizer(rounding, bits: int) -> None:
    middle = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    x = torch.special.ndtri((1 + middle) / 2)
    relu = QuantReLU(bits, levels=rounding)
    measured = (x - relu(x)).square().mean().item()
    assert half_gaussian_error(relu.step.item(), bits, rounding) == pytest.approx(
        measured, rel=2e-3 if bits < 8 else 2e-2
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_gaussian_step_is_the_least_error(bits: int) -> None:
    middle = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    x = torch.special.ndtri(middle)
    top = max(1, 2 ** (bits - 1) - 1)

    def error(step: float) -> float:
        levels = (x >= 0) * 2.0 - 1 if bits == 1 else (x / step).round().clamp(-top, top)
        return (x - step * levels).square().mean().item()

    best = gaussian_step(bits)
    assert error(best) < min(error(best * 1.02), error(best / 1.02))


def test_minimum_finds_the_deepest_of_two_valleys() -> None:
    def f(x: float) -> float:
        return min((x - 1) ** 2, (x - 5) ** 2 - 0.1)

    assert minimum(f, 0.1, 10.0) == pytest.approx(5.0, abs=1e-6)
