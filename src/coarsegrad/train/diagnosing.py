"""A Lightning callback: what each optimizer step did, in the run's loggers."""

from __future__ import annotations

from typing import Any, final

import lightning

from coarsegrad.errors import TrainError


@final
class LogDiagnostics(lightning.Callback):
    """Log ``optimizer.diagnostics()`` as ``diagnostics/<parameter>/<key>`` and ``.../total/...``.

    The keys are rho, at_lower, at_upper, flips and upsilon_negative, where they apply; see
    ``optim.BAMSProd.diagnostics``. They go to every logger of the trainer, at its global step. Of
    several optimizers that keep diagnostics, each has its index in front of the parameter.

    Args:
        every: optimizer steps between two entries.

    Raises:
        ValueError: ``every`` is not a positive integer.
        TrainError: when training begins, if no optimizer keeps diagnostics.
    """

    def __init__(self, every: int = 10) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(
                f"LogDiagnostics needs every as an integer of 1 or more, got {every!r}; 1 logs "
                "each step"
            )
        self.every = every
        self._seen = 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Refuse a run without diagnostics.

        Not at ``on_fit_start``: a checkpoint restored after it may switch diagnostics off again.
        """
        self._seen = trainer.global_step
        if not _keeping(trainer):
            names = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers)
            raise TrainError(
                f"LogDiagnostics needs an optimizer that keeps diagnostics, got {names or 'none'} "
                "without; build a rule of coarsegrad.optim with diagnostics=True (in a recipe: "
                "diagnostics: true and an optimizer that is not torch's), or leave the callback out"
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Log the step, if the optimizer stepped and it is time."""
        step = trainer.global_step
        if step == self._seen:
            return
        self._seen = step
        if step % self.every:
            return
        keeping = _keeping(trainer)
        found = {
            f"diagnostics/{f'{index}/' if len(keeping) > 1 else ''}{name}/{key}": value
            for index, optimizer in keeping.items()
            for name, values in optimizer.diagnostics().items()
            for key, value in values.items()
        }
        for logger in trainer.loggers:
            logger.log_metrics(found, step=step)


def _keeping(trainer: lightning.Trainer) -> dict[int, Any]:
    """Return the optimizers with a group that keeps diagnostics; wrappers pass attributes on."""
    return {
        index: optimizer
        for index, optimizer in enumerate(trainer.optimizers)
        if hasattr(optimizer, "diagnostics")
        and any(group.get("diagnostics") for group in optimizer.param_groups)
    }
