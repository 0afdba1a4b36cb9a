"""The rule on packing: whatever ``deploy`` refuses that no other rule has named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from coarsegrad import deploy
from coarsegrad.errors import PackError
from coarsegrad.inspect.findings import Finding


def not_packable(model: nn.Module, batch: Tensor, before: Sequence[Finding]) -> Iterator[Finding]:
    """The reason of ``deploy.pack``, unless a finding of ``before`` names the same place.

    Source: compute-engine#803 and #806, networks that train but do not deploy.
    """
    try:
        deploy.to_program(model, batch)
    except PackError as error:
        reason = str(error)
        names = {name for name, _ in model.named_modules() if name}
        # The sentences of deploy begin with the layer.
        subject = next((n for n in sorted(names, key=len, reverse=True) if _is_on(reason, n)), None)
        if any(_is_on(reason, finding.layer) for finding in before):
            return
        yield Finding(
            subject or type(model).__name__,
            "not-packable",
            f"deploy.pack refuses the model: {reason}",
            "as the sentence says, if the model is to be packed; training does not need it",
            "larq/compute-engine#803, larq/compute-engine#806",
        )


def _is_on(reason: str, name: str) -> bool:
    return reason.startswith((f"{name} ", f"{name}.", f"{name}:"))
