"""A Lightning callback: the norm of a network's weights, epoch by epoch."""

from __future__ import annotations

from typing import Any, final

import lightning
import torch
from torch import nn

from coarsegrad.train import Classifier


def weight_norm(net: nn.Module) -> float:
    """Return the l2 norm of all weights of convolutions and dense layers, as one vector.

    >>> layer = nn.Linear(2, 1)
    >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> weight_norm(nn.Sequential(layer, nn.BatchNorm1d(1)))
    5.0
    """
    squares = [
        module.weight.detach().double().square().sum()
        for module in net.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    return float(torch.stack(squares).sum().sqrt())


@final
class WeightNorms(lightning.Callback):
    """Collect ``weight_norm`` of a Classifier's network: before the first epoch and after each.

    The list is part of a checkpoint, so that a resumed run has all epochs.
    """

    def __init__(self) -> None:
        self.norms: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the norms so far."""
        return {"norms": list(self.norms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the norms of a checkpoint."""
        self.norms = list(state_dict["norms"])

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Measure before the first step."""
        assert isinstance(pl_module, Classifier)
        if not self.norms:
            self.norms.append(weight_norm(pl_module.net))

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Measure."""
        assert isinstance(pl_module, Classifier)
        self.norms.append(weight_norm(pl_module.net))
