"""A Lightning callback: gradual magnitude pruning, the control that splitting is compared with."""

from __future__ import annotations

from typing import Any, final

import lightning
import torch
from torch import Tensor, nn

from coarsegrad.train import Classifier


@final
class GradualPruning(lightning.Callback):
    r"""Zero the smallest weights of a Classifier's network, more of them from step to step.

    .. math:: s_t = s (1 - (1 - t / T)^3)

    Zhu and Gupta 2017, arXiv:1710.01878, eq. (1), from sparsity 0 on. One threshold for all weights
    of two dimensions or more, found anew every ``every`` steps; what is 0 stays 0.

    Args:
        sparsity: s, the share of zeros that is reached.
        until: T, as a part of the training; the rest of it keeps the sparsity.
        every: steps between two thresholds.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, sparsity: float, until: float, every: int = 100) -> None:
        if not (0 <= sparsity < 1 and 0 < until <= 1 and every >= 1):
            raise ValueError(
                "GradualPruning needs sparsity in [0, 1), until in (0, 1] and every >= 1, got "
                f"{sparsity!r}, {until!r} and {every!r}"
            )
        self.sparsity = sparsity
        self.until = until
        self.every = every
        self.masks: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the masks."""
        return {"masks": self.masks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the masks of a checkpoint."""
        self.masks = state_dict["masks"]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Prune further, or keep what is pruned at 0 after the optimizer's step."""
        assert isinstance(pl_module, Classifier)
        weights = prunable(pl_module.net)
        last = self.until * trainer.estimated_stepping_batches
        done = min(1.0, trainer.global_step / last)
        if trainer.global_step % self.every == 0 or done == 1 or not self.masks:
            share = self.sparsity * (1 - (1 - done) ** 3)
            bound = _smallest(weights, share)
            self.masks = [(w.abs() > bound).to(w.dtype) for w in weights]
        for w, mask in zip(weights, self.masks, strict=True):
            w.mul_(mask)


def prunable(net: nn.Module) -> list[Tensor]:
    """Return the weights of two dimensions or more, which are pruned."""
    return [parameter.detach() for parameter in net.parameters() if parameter.ndim >= 2]


def _smallest(weights: list[Tensor], share: float) -> float:
    """Return the magnitude that so large a share of all weights does not exceed."""
    magnitudes = torch.cat([w.abs().flatten() for w in weights])
    count = round(share * magnitudes.numel())
    return float(magnitudes.kthvalue(count).values) if count else -1.0
