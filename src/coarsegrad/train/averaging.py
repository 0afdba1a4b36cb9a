"""A Lightning callback: beside every evaluation, one at the averaged latents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import lightning
import torch
from torch import Tensor, nn

from coarsegrad.train.beside import BesideEvaluations
from coarsegrad.train.classification import Classifier
from coarsegrad.train.ema import LatentEMA, averaged, check_decay


@final
class AverageLatents(BesideEvaluations):
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
        super().__init__("averaged_accuracy")
        self.decay = decay
        self.batches = batches
        self.ema: LatentEMA | None = None
        self._loaded: dict[str, Any] | None = None
        self._seen = 0

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

    def _form(self, pl_module: Classifier) -> nn.Module | None:
        ema = self._ready(pl_module)
        return averaged(pl_module.net, ema.values, self.batches()) if ema.steps else None
