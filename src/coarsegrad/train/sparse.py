"""Accuracy at the sparse twin u of relaxed variable splitting: the network that is shipped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import final

import lightning
import torch
from torch import Tensor, nn

from coarsegrad.optim import RVS
from coarsegrad.train.beside import BesideEvaluations
from coarsegrad.train.classification import Classifier
from coarsegrad.train.ema import estimate_statistics


@torch.no_grad()
def at_twin(model: nn.Module, optimizer: RVS, batches: Iterable[Tensor]) -> nn.Module:
    """Return a copy of the model at u, in evaluation mode; the model stays as it is.

    Batch norm's statistics are estimated anew, as ``averaged`` does: those that were gathered are
    of activations at w, and a binarized one flips with its threshold.

    Args:
        model: the module that the optimizer trains.
        optimizer: splits its variables.
        batches: inputs for the statistics. Not read if the model has no batch norm.

    Raises:
        ValueError: batch norm finds no batch.

    >>> net = nn.Linear(3, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, 0.1, -0.1]]))
    >>> optimizer = RVS(torch.optim.SGD(net.parameters(), lr=0.1), lam=0.125, beta=1.0)
    >>> at_twin(net, optimizer, []).weight.data
    tensor([[1., 0., 0.]])
    """
    with optimizer.at_u():
        twin = copy.deepcopy(model).eval()
    estimate_statistics(twin, batches)
    return twin


@final
class MeasureSparse(BesideEvaluations):
    """Measure a Classifier at u beside every evaluation, which is at w.

    Each validation and test loop also runs a copy of the network at u and logs ``sparse_accuracy``
    and ``sparsity``, the share of zeros among the weights that are pruned. Before training has
    begun there is no u, so nothing is logged.

    Args:
        batches: called before each evaluation; gives inputs for batch norm's statistics.
    """

    def __init__(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        super().__init__("sparse_accuracy")
        self.batches = batches
        self._optimizer: RVS | None = None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Keep the optimizer, which a test after training does not show."""
        (optimizer,) = trainer.optimizers
        assert isinstance(optimizer, RVS)
        self._optimizer = optimizer

    def _form(self, pl_module: Classifier) -> nn.Module | None:
        if self._optimizer is None:
            return None
        return at_twin(pl_module.net, self._optimizer, self.batches())

    def _more(self) -> dict[str, float]:
        assert self._optimizer is not None
        return {"sparsity": self._optimizer.sparsity()["total"]}
