"""The last step of a conversion to a few bits: steps of quantized ReLUs from the example batch."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from coarsegrad.errors import CalibrationError, ConvertError
from coarsegrad.nn.calibrate import calibrate
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.nn.plan import Plan
from coarsegrad.quantizers import QuantReLU


def calibrated(plan: Plan, x: Tensor | tuple[Tensor, ...]) -> Plan:
    """Fit the quantized ReLUs of a plan's model to a batch, and say so in the plan.

    Raises:
        ConvertError: the model does not run on the batch, or the batch tells a layer no step; the
            conversion was undone.
    """
    has_steps = any(
        isinstance(module, LatentWeight) and isinstance(module.input_quantizer, QuantReLU)
        for module in plan.model.modules()
    )
    if not has_steps:
        return plan
    try:
        found = calibrate(plan.model, x)
    except CalibrationError as error:
        plan.undo()
        raise ConvertError(f"convert cannot calibrate on x: {error}") from error
    changes = [
        replace(change, why=f"{change.why}; {_step(found[change.name])} from x")
        if change.name in found
        else change
        for change in plan.changes
    ]
    return Plan(plan.model, changes, plan.kept, plan.edits)


def _step(quantizer: QuantReLU) -> str:
    assert quantizer.step is not None
    return f"step {quantizer.step.item():.4g}"
