"""The learning rate over a run, as a recipe states it."""

from __future__ import annotations

from torch import nn

from coarsegrad.train import Classifier, Recipe

STEPS_AN_EPOCH = 7


def rates(recipe: Recipe) -> list[float]:
    """Return the factor of each step, a list an epoch."""
    steps = recipe.epochs * STEPS_AN_EPOCH
    module = Classifier(nn.Linear(2, 2), recipe, 2, steps)
    return [module._rate(step) for step in range(steps)]


def test_steps_fall_after_the_milestones() -> None:
    recipe = Recipe(epochs=5, schedule="steps", milestones=[1, 4], gamma=0.5)
    epochs = [1.0, 0.5, 0.5, 0.5, 0.25]
    assert rates(recipe) == [rate for rate in epochs for _ in range(STEPS_AN_EPOCH)]


def test_the_paper_s_hundred_epochs() -> None:
    found = rates(Recipe(epochs=100, schedule="steps", milestones=[20, 40, 60, 80]))
    for epoch, rate in ((0, 1), (19, 1), (20, 0.1), (39, 0.1), (40, 0.01), (99, 1e-4)):
        at = found[epoch * STEPS_AN_EPOCH : (epoch + 1) * STEPS_AN_EPOCH]
        assert all(abs(value - rate) < 1e-12 for value in at)


def test_the_others() -> None:
    assert set(rates(Recipe(schedule="constant"))) == {1.0}
    cosine = rates(Recipe(schedule="cosine"))
    assert cosine[0] == 1
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[-1] < 0.01
