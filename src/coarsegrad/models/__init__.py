"""Architectures, one a file, each readable from top to bottom."""

from coarsegrad.models.mlp import mlp
from coarsegrad.models.small_cnn import small_cnn

__all__ = ["mlp", "small_cnn"]
