"""A Lightning callback: beside every evaluation, one at the averaged latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import lightning
import torch
from torch import Tensor, nn

from coarsegrad.train.classification import Classifier
from coarsegrad.train.ema import LatentEMA, averaged, check_decay


@final
class AverageLatents(lightning.Callback):
    """Keep the EMA of a Classifier's latents; measure at it beside every evaluation.

    Each validation and test loop also runs a copy of the network at the averaged latents and logs
    ``averaged_accuracy``; training goes on as if nothing was measured. The averages are in the
    checkpoint. Before the first step there is nothing to measure, so nothing is logged.

    Place it before callbacks that write checkpoints, which would miss the step's average.

    Args:
        decay: as in ``LatentEMA``.
        batches: called before each evaluation; gives inputs for batch norm's statistics.

    Raises:
        ValueError: ``decay`` out of range.
    """

    def __init__(self, decay: float, batches: Callable[[], Iterable[Tensor]]) -> None:
        check_decay(decay)
        self.decay = decay
        self.batches = batches
        self.ema: LatentEMA | None = None
        self._loaded: dict[str, Any] | None = None
        self._seen = 0
        self._net: nn.Module | None = None
        self._right = self._images = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the EMA."""
        return {} if self.ema is None else self.ema.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until the model is on its device."""
        self._loaded = state_dict or None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin, or go on from the checkpoint."""
        self._ready(pl_module)
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Take in the weights, if the optimizer stepped: accumulated batches do not count."""
        assert isinstance(pl_module, Classifier)
        if trainer.global_step != self._seen:
            self._seen = trainer.global_step
            self._ready(pl_module).update(pl_module.net)

    def _ready(self, pl_module: lightning.LightningModule) -> LatentEMA:
        assert isinstance(pl_module, Classifier)
        # An evaluation may come first, and tensors made in its inference mode could not be updated.
        with torch.inference_mode(False):
            if self.ema is None:
                self.ema = LatentEMA(pl_module.net, self.decay)
            if self._loaded is not None:
                self.ema.load_state_dict(self._loaded)
                self._loaded = None
        return self.ema

    def _begin(self, pl_module: lightning.LightningModule) -> None:
        ema = self._ready(pl_module)
        assert isinstance(pl_module, Classifier)
        if ema.steps:
            self._net = averaged(pl_module.net, ema.values, self.batches())
            self._right = self._images = 0

    def _count(self, batch: tuple[Tensor, Tensor]) -> None:
        if self._net is not None:
            x, y = batch
            self._right += int((self._net(x).argmax(1) == y).sum())
            self._images += len(y)

    def _end(self, pl_module: lightning.LightningModule) -> None:
        if self._net is not None:
            pl_module.log("averaged_accuracy", self._right / self._images)
        self._net = None

    def on_validation_epoch_start(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        """Make the copy at the averaged latents."""
        self._begin(pl_module)

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
        self._count(batch)

    def on_validation_epoch_end(self, trainer: Any, pl_module: lightning.LightningModule) -> None:
        """Log them, and drop the copy."""
        self._end(pl_module)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end
