"""The large margin cosine loss, and the models that it trains."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from coarsegrad.train import Classifier, Recipe, cosface
from coarsegrad.train.build import build_model


def written_out(cosines: list[float], y: int, s: float, m: float) -> float:
    """Return equation (4) for one sample."""
    right = math.exp(s * (cosines[y] - m))
    others = sum(math.exp(s * c) for j, c in enumerate(cosines) if j != y)
    return -math.log(right / (right + others))


def test_equation_4() -> None:
    rows = [[0.9, -0.2, 0.3], [0.1, 0.2, -1.0]]
    for s, m in ((4.0, 0.35), (1.0, 0.0)):
        expected = (written_out(rows[0], 2, s, m) + written_out(rows[1], 1, s, m)) / 2
        found = cosface(torch.tensor(rows), torch.tensor([2, 1]), s, m)
        assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "margin"), [(0, 0.1), (math.inf, 0.1), (9, 1.0), (9, -0.1)])
def test_refuses(scale: float, margin: float) -> None:
    with pytest.raises(ValueError, match=r"cosface needs a finite scale > 0 and a margin in \[0"):
        cosface(torch.zeros(1, 2), torch.tensor([0]), scale, margin)


@pytest.mark.parametrize(
    ("given", "used"), [({}, (30.0, 0.1)), ({"scale": 8.0, "margin": 0.0}, (8.0, 0.0))]
)
def test_a_recipes_numbers_reach_the_loss(
    given: dict[str, float], used: tuple[float, float]
) -> None:
    recipe = Recipe(model="cnn7", width=4, ste="relu", **given)  # type: ignore[arg-type]
    module = Classifier(build_model(recipe), recipe, 10, 1)
    cosines, y = torch.rand(6, 10), torch.arange(6)
    assert module.loss(cosines, y) == cosface(cosines, y, *used)
    plain = Recipe()
    assert Classifier(build_model(plain), plain, 10, 1).loss(cosines, y) == F.cross_entropy(
        cosines, y
    )
