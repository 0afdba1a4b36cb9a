"""What items that train have in common: where a run lies, and a line an epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coarsegrad.reproduce.report import Request

if TYPE_CHECKING:
    from coarsegrad.train import Recipe


def run_folder(request: Request, name: str, recipe: Recipe) -> Path:
    """Return the folder of a run of this recipe.

    Other settings are another folder: a run is resumed with the recipe it began with.
    """
    mark = hashlib.sha256(recipe.to_yaml().encode()).hexdigest()[:8]
    return request.out / "runs" / f"{name.replace(' ', '-')}-{mark}"


def epochs_shown(request: Request, recipe: Recipe) -> Callable[[dict[str, float]], None]:
    """Return what shows a line after each epoch."""

    def epoch(row: dict[str, float]) -> None:
        request.show(
            f"    epoch {row['epoch']:.0f}/{recipe.epochs}: loss {row['train_loss']:.4f}, "
            f"training accuracy {row['train_accuracy']:.2%}"
        )

    return epoch
