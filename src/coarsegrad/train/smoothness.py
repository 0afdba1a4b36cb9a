"""A Lightning callback: the smoothness of the loss along the steps of a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, final

import lightning
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from coarsegrad.errors import TrainError
from coarsegrad.train.callbacks import write_rows
from coarsegrad.train.classification import Classifier
from coarsegrad.train.local_smoothness import local_smoothness

Loss = Callable[[nn.Module, Any], Tensor]


@final
class Smoothness(lightning.Callback):
    """Measure the smoothness along every so many steps; training goes on as if nothing was.

    Rows of ``step, gradient, smoothness, length, hessian, loss``: the optimizer steps done before,
    and what ``local_smoothness`` finds between the weights before the step and after it. The rows
    are in the checkpoint. The table grows as ``NAME.partial.csv`` and is ``NAME.csv`` once training
    ends; a run that diverged or was stopped leaves the former.

    Place it before callbacks that write checkpoints, which would miss the step's row.

    Args:
        path: the CSV file.
        every: optimizer steps from one measured step to the next; the first is measured.
        batch: what every gradient is taken on; None is the training batch of the step.
        loss: the loss of a copy of the Lightning module on a batch. None is that of a
            ``Classifier``.
        points: gradients on the way, n of ``local_smoothness``.
        hessian: power iterations for the Hessian's norm; 0 leaves the column empty. Float networks
            only.
        dtype: of the copy that is measured and of the batch; None is the module's own.
        running_statistics: batch norms use their running statistics, not the batch's.

    Raises:
        ValueError: ``every`` or ``points`` is below 1, or ``hessian`` below 0; in training,
            ``hessian`` for a quantized network.
        TrainError: when training begins, if the module is no Classifier and ``loss`` is None.
        DivergenceError: in training, the loss or a gradient is not finite.
    """

    def __init__(
        self,
        path: str | Path,
        every: int = 50,
        *,
        batch: Any = None,
        loss: Loss | None = None,
        points: int = 5,
        hessian: int = 0,
        dtype: torch.dtype | None = torch.float64,
        running_statistics: bool = False,
    ) -> None:
        for name, value, least in (("every", every, 1), ("points", points, 1),
                                   ("hessian", hessian, 0)):  # fmt: skip
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"Smoothness needs {name} as an integer of {least} or more, got {value!r}"
                )
        self.path = Path(path)
        self.every = every
        self.batch = batch
        self.loss = loss
        self.measure = partial(
            local_smoothness, points=points, hessian=hessian, dtype=dtype,
            running_statistics=running_statistics,
        )  # fmt: skip
        self.dtype = dtype
        self.rows: list[dict[str, float | None]] = []
        self._before: tuple[int, dict[str, Tensor]] | None = None

    @property
    def partial_path(self) -> Path:
        """Where the table stands until training ends."""
        return self.path.with_suffix(f".partial{self.path.suffix}")

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Refuse a module whose loss nobody knows."""
        if self.loss is None and not isinstance(pl_module, Classifier):
            raise TrainError(
                f"Smoothness needs loss for a {type(pl_module).__name__}, which is no Classifier; "
                "give loss=function(module, batch) that returns the loss"
            )

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Keep the weights, if it is time."""
        if trainer.global_step % self.every == 0:
            self._before = (trainer.global_step, _weights(_measured(pl_module)))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measure, once the optimizer stepped: accumulated batches do not count."""
        if self._before is None or trainer.global_step == self._before[0]:
            return
        (step, before), self._before = self._before, None
        model = _measured(pl_module)
        fixed = move_data_to_device(batch if self.batch is None else self.batch, pl_module.device)
        loss = self._loss(pl_module, apply_to_collection(fixed, Tensor, self._cast))
        found = self.measure(model, loss, before, _weights(model))
        if found.smoothness is None and found.step:
            warnings.warn(
                f"the step of length {found.step:.3g} at {step} is too short for the smoothness "
                f"along it to be measured; give Smoothness dtype=torch.float64, got {self.dtype}",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip
        self.rows.append({
            "step": step, "gradient": found.gradient, "smoothness": found.smoothness,
            "length": found.step, "hessian": found.hessian, "loss": found.loss,
        })  # fmt: skip
        if trainer.is_global_zero:
            write_rows(self.partial_path, self.rows)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Give the table its name."""
        if trainer.is_global_zero:
            write_rows(self.path, self.rows)
            self.partial_path.unlink(missing_ok=True)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() and self.dtype else tensor

    def _loss(
        self, pl_module: lightning.LightningModule, batch: Any
    ) -> Callable[[nn.Module], Tensor]:
        if self.loss is not None:
            own = self.loss
            return lambda model: own(model, batch)
        assert isinstance(pl_module, Classifier)
        x, y = batch
        return lambda net: pl_module.loss(net(x), y)


def _measured(pl_module: lightning.LightningModule) -> nn.Module:
    """Return what is copied: a Classifier's network without its metrics, else all of the module."""
    return pl_module.net if isinstance(pl_module, Classifier) else pl_module


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
