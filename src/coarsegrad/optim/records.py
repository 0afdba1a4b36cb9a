"""Diagnostics: what a step did to each tensor, in a few numbers.

One float64 buffer a tensor, written by the eager paths here and by the native pass alike:
[rho, at_lower, at_upper, flips, upsilon_negative, eta_prev, lower_prev[K], upper_prev[K]]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

KEYS = ("rho", "at_lower", "at_upper", "flips", "upsilon_negative")
HEADER = len(KEYS) + 1


@dataclass(frozen=True)
class Limits:
    """What a rule knows of one tensor after a step.

    Attributes:
        rho: relative quantization error, or NaN.
        value: the quantity that is clipped, or None.
        lower: its bounds in this step, 0-d or broadcasting.
        upper: likewise.
        eta: the schedule's learning rate, bias correction left out; NaN leaves Upsilon out.
        squared: whether ``value`` is in units of v, else of sqrt v.
    """

    rho: float = math.nan
    value: Tensor | None = None
    lower: Tensor | None = None
    upper: Tensor | None = None
    eta: float = math.nan
    squared: bool = True


def blank(channels: int) -> Tensor:
    """Return a record of no step."""
    return torch.full((HEADER + 2 * channels,), math.nan, dtype=torch.float64)


class Watch:
    """What has to be remembered from before a step."""

    def __init__(self, batch: Any) -> None:
        self.negative = [p < 0 for p in batch.params]
        self.vhat = [v.clone() for v in batch.state.get("vhat", [])]
        self.bounds = [b.clone() for b in batch.state.get("bounds", [])]

    def write(
        self, record: list[Tensor], batch: Any, limits: Callable[[Any, int, Watch], Limits]
    ) -> None:
        """Fill the records after the step."""
        for i, (row, w) in enumerate(zip(record, batch.params, strict=True)):
            found = limits(batch, i, self)
            row[0] = found.rho
            row[3] = _share((w < 0) != self.negative[i])
            if found.value is None or found.lower is None or found.upper is None:
                continue
            row[1] = _share(found.value < found.lower)
            row[2] = _share(found.value > found.upper)
            self._upsilon(row, i, found)

    def _upsilon(self, row: Tensor, i: int, found: Limits) -> None:
        if math.isnan(found.eta) or found.value is None or found.lower is None:
            return
        assert found.upper is not None
        dims = (1,) * max(0, found.value.dim() - 1)
        lower, upper = row[HEADER:].reshape(2, -1).to(found.value.dtype).unbind()
        if lower.numel() == 1:
            lower, upper = lower.reshape(()), upper.reshape(())
        else:
            lower, upper = lower.reshape(-1, *dims), upper.reshape(-1, *dims)
        before = self.vhat[i] if found.squared else self.vhat[i].sqrt()
        ratio = float(row[5]) / found.eta if found.eta else math.nan
        if found.squared:
            ratio *= ratio
        now = found.value.clamp(found.lower, found.upper) * ratio
        row[4] = _share(now < before.clamp(lower, upper)) if math.isfinite(ratio) else math.nan
        row[5] = found.eta
        row[HEADER:] = torch.cat([found.lower.reshape(-1), found.upper.reshape(-1)]).double().cpu()


def _share(mask: Tensor) -> float:
    return float(mask.double().mean()) if mask.numel() else 0.0


def summary(
    groups: list[dict[str, Any]], kept: Mapping[Tensor, Tensor]
) -> dict[str, dict[str, float]]:
    """Return the records by parameter name, and their means by elements in ``"total"``.

    Raises:
        RuntimeError: there are none.
    """
    if not kept:
        raise RuntimeError(
            "diagnostics() needs a group with diagnostics=True and a step done; build the "
            "optimizer with diagnostics=True"
        )
    layers: dict[str, dict[str, float]] = {}
    totals: dict[str, list[float]] = {}
    for number, group in enumerate(groups):
        names = group.get("param_names") or [f"{number}.{i}" for i in range(len(group["params"]))]
        for name, p in zip(names, group["params"], strict=True):
            if p not in kept:
                continue
            values = dict(zip(KEYS, kept[p][: len(KEYS)].tolist(), strict=True))
            layers[name] = {key: x for key, x in values.items() if not math.isnan(x)}
            for key, x in layers[name].items():
                weighted = totals.setdefault(key, [0.0, 0.0])
                weighted[0] += x * p.numel()
                weighted[1] += p.numel()
    layers["total"] = {key: total / max(size, 1) for key, (total, size) in totals.items()}
    return layers
