"""Packed file -> predictions, without torch."""

from coarsegrad.runtime.model import Model, load

__all__ = ["Model", "load"]
