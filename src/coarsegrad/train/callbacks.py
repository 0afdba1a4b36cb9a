"""What a run leaves behind while it goes: a table of metrics, whole checkpoints."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import lightning
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from coarsegrad.errors import TrainError
from coarsegrad.files import replacing
from coarsegrad.train.classification import Classifier

Row = dict[str, float]


@final
class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written beside their place and renamed: a kill leaves the last or the next.

    Lightning's own go through the system's temporary folder, a copy if that is another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the checkpoint."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


@final
class SaveLast(lightning.Callback):
    """Write ``last.ckpt`` every so many steps, and after each epoch behind ``MetricsTable``.

    The last batch of an epoch is left to the epoch's end: a checkpoint between the two would
    resume into the next epoch without this one's row and with its means.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Save if it is time."""
        if trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer, pl_module)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Save."""
        self._save(trainer, pl_module)

    def _save(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # The sign of NaN is +1, so that a loss can stay finite while latent weights are not.
        for name, parameter in pl_module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise TrainError(
                    f"{name} holds NaN or infinity at step {trainer.global_step}; lower the "
                    f"learning rates, or look for extreme values in the data; {self.path} is from "
                    "before this step"
                )
        trainer.save_checkpoint(self.path)


@final
class MetricsTable(lightning.Callback):
    """One row an epoch, in ``metrics.csv`` and in every checkpoint.

    Kept here and not by Lightning's CSVLogger, which deletes the file of a run that is resumed.

    Args:
        path: the CSV file, rewritten whole after each epoch.
        show: called with each new row.
    """

    def __init__(self, path: Path, show: Callable[[Row], None] | None = None) -> None:
        self.path = path
        self.show = show
        self.rows: list[Row] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of a checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Add the epoch's row; the evaluation on held-out images, if any, ran before."""
        assert isinstance(pl_module, Classifier)
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= {key: float(value) for key, value in pl_module.finish_epoch().items()}
        for key in ("validation_accuracy", "averaged_accuracy", "sparse_accuracy", "sparsity"):
            if key in trainer.callback_metrics:
                row[key] = float(trainer.callback_metrics[key])
        self.rows.append(row)
        write_rows(self.path, self.rows)
        if self.show is not None:
            self.show(self.rows[-1])


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file, whole or not at all: every column of any row; None is an empty cell.

    Raises:
        OSError: the folder is missing or not writable.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
