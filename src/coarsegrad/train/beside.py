"""What callbacks share that measure another form of a network beside every evaluation."""

from __future__ import annotations

from typing import Any

import lightning
from torch import nn

from coarsegrad.train.classification import Classifier


class BesideEvaluations(lightning.Callback):
    """Abstract: run a second network through each validation and test loop, and log its accuracy.

    A subclass gives ``_form``; training goes on as if nothing was measured.

    Args:
        name: under which the accuracy is logged.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._net: nn.Module | None = None
        self._right = self._images = 0

    def _form(self, pl_module: Classifier) -> nn.Module | None:
        """Return the network to measure, in evaluation mode, or None where there is none yet."""
        raise NotImplementedError

    def _more(self) -> dict[str, float]:
        """Return what else to log of it."""
        return {}

    def on_validation_epoch_start(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        """Make the network."""
        assert isinstance(pl_module, Classifier)
        self._net = self._form(pl_module)
        self._right = self._images = 0

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count its right answers."""
        if self._net is not None:
            x, y = batch
            self._right += int((self._net(x).argmax(1) == y).sum())
            self._images += len(y)

    def on_validation_epoch_end(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        """Log them, and drop the network."""
        if self._net is not None:
            pl_module.log(self._name, self._right / self._images)
            pl_module.log_dict(self._more())
        self._net = None

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
