"""Train binary neural networks with coarse gradients; ship them as packed bits.

The rooms load when they are first named, so that ``coarsegrad.runtime`` never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coarsegrad import (
        bench,
        data,
        deploy,
        errors,
        inspect,
        models,
        nn,
        optim,
        packed,
        quantizers,
        reproduce,
        runtime,
        ste,
        theory,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "bench",
    "data",
    "deploy",
    "errors",
    "inspect",
    "models",
    "nn",
    "optim",
    "packed",
    "quantizers",
    "reproduce",
    "runtime",
    "ste",
    "theory",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"coarsegrad.{name}")
    raise AttributeError(f"module 'coarsegrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
