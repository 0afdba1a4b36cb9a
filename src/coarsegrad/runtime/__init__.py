"""Packed file -> predictions, without torch."""

from coarsegrad.runtime.model import Model, load
from coarsegrad.runtime.targets import Target, targets

__all__ = ["Model", "Target", "load", "targets"]
