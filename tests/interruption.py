"""A training that is interrupted in the middle of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from coarsegrad.train import Classifier, Recipe, train


def train_until(step: int, recipe: Recipe, folder: Path) -> None:
    """Train, and stop as if the power had gone before optimizer step ``step``."""
    before = Classifier.training_step

    def stop(module: Classifier, batch: Any, batch_idx: int) -> Tensor:
        if module.global_step == step:
            raise OSError("power is out")
        return before(module, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "training_step", stop)
        with pytest.raises(OSError, match="power is out"):
            train(recipe, folder)
