"""The Lightning module for classification."""

from __future__ import annotations

import math
from typing import Any, final

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from coarsegrad.errors import TrainError
from coarsegrad.train import shapes
from coarsegrad.train.cosface import MARGIN, SCALE, cosface
from coarsegrad.train.optimizers import build_optimizer
from coarsegrad.train.recipe import Recipe


@final
class Classifier(lightning.LightningModule):
    """Cross entropy or CosFace, accuracy, the recipe's two rules, learning rates and schedule.

    Args:
        net: maps (N, C, H, W) float32 images to (N, classes) logits, or cosines if the recipe's
            model does.
        recipe: learning rates, betas, schedule.
        classes: how many labels there are.
        steps: optimizer steps of the whole run, for the schedule.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, classes: int, steps: int) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.steps = steps
        self.train_loss = MeanMetric()
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        # The running means of an epoch are part of a checkpoint taken in its middle.
        self.train_loss.persistent(True)
        self.train_accuracy.persistent(True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        logits: Tensor = self.net(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            TrainError: the loss is NaN or infinite.
        """
        x, y = batch
        logits = self(x)
        loss = self.loss(logits, y)
        if not bool(torch.isfinite(loss)):
            raise TrainError(
                f"the loss is {loss.item()} at step {self.global_step} (epoch "
                f"{self.current_epoch}, batch {batch_idx}); lower lr_real (now "
                f"{self.recipe.lr_real:g}) or lr_binary (now {self.recipe.lr_binary:g}), or look "
                "for NaN in the data; the last checkpoint is from before this step"
            )
        self.train_loss.update(loss.detach())
        self.train_accuracy.update(logits.detach(), y)
        return loss

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the recipe's loss of these logits, or cosines, 0-d."""
        if not shapes.MODELS[self.recipe.model].gives_cosines:
            return F.cross_entropy(logits, y)
        scale, margin = self.recipe.scale, self.recipe.margin
        return cosface(
            logits, y, SCALE if scale is None else scale, MARGIN if margin is None else margin
        )

    def finish_epoch(self) -> dict[str, Tensor]:
        """Log and return the mean loss and accuracy of the epoch, and begin the next."""
        metrics = {
            "train_loss": self.train_loss.compute(),
            "train_accuracy": self.train_accuracy.compute(),
        }
        self.log_dict(metrics)
        self.train_loss.reset()
        self.train_accuracy.reset()
        return metrics

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the right answers on a batch of held-out training images."""
        self._count("validation_accuracy", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count the right answers on a batch of test images."""
        self._count("test_accuracy", batch)

    def _count(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        self.accuracy.update(self(x), y)
        self.log(name, self.accuracy, on_epoch=True, on_step=False)

    def configure_optimizers(self) -> Any:
        """Return the recipe's two rules as one optimizer, and the schedule, stepped per batch."""
        optimizer = build_optimizer(self.net, self.recipe, self.steps // self.recipe.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _rate(self, step: int) -> float:
        recipe = self.recipe
        if recipe.schedule == "constant":
            return 1.0
        if recipe.schedule == "steps":
            # Steps are a whole number an epoch, so an epoch's end is exact.
            epoch = step * recipe.epochs // self.steps
            passed: float = recipe.gamma ** sum(after <= epoch for after in recipe.milestones)
            return passed
        return 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))
