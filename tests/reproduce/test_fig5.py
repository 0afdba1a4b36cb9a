"""Figure 5: how far features lie off their class's direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coarsegrad.reproduce.coarse_gradient import fig5


def rays(spread: float, count: int = 50) -> tuple[fig5.Floats, np.ndarray]:
    """Return features of ten classes on rays 36 degrees apart, up to ``spread`` degrees off."""
    digits = np.repeat(np.arange(10), count)
    off = np.tile(np.linspace(-spread, spread, count), 10)
    angles = np.radians(36 * digits + off)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * (1 + digits)[:, None], digits


def test_angles_off_the_class_s_direction() -> None:
    points, digits = rays(10.0)
    means, off = fig5.directions(points, digits)
    assert np.degrees(np.arctan2(means[1, 1], means[1, 0])) == pytest.approx(36)
    assert off.max() == pytest.approx(10)


@pytest.mark.parametrize(("spread", "verdict"), [(5.0, "holds"), (30.0, "differs")])
def test_classes_hold_if_they_keep_to_their_half_of_the_gap(spread: float, verdict: str) -> None:
    found = fig5.compared("float", *rays(spread), 0.99, quick=False)
    assert found.verdict == verdict
    assert "smallest gap (36 degrees); test accuracy 99.00%" in found.ours
    assert fig5.compared("float", *rays(spread), 0.99, quick=True).verdict == "not run"


def test_the_two_networks_differ_in_their_activations_alone() -> None:
    quantized, plain = (fig5.recipe_of(kind, 3, quick=False) for kind in fig5.KINDS)
    assert (quantized.model, quantized.seed, quantized.twin, plain.twin) == ("cnn7", 3, False, True)
    same = ("epochs", "width", "lr_real", "weight_decay", "scale", "margin", "batch_size", "seed")
    assert all(getattr(quantized, key) == getattr(plain, key) for key in same)


def test_the_picture_is_small(tmp_path: Path) -> None:
    points, digits = rays(10.0, 200)
    picture = fig5.draw(dict.fromkeys(fig5.KINDS, (points, digits)), tmp_path / "a.png")
    assert picture.stat().st_size < 80_000
