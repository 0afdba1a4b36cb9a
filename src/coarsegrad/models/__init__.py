"""Architectures, one a file, each readable from top to bottom."""

from coarsegrad.models.float_twin import float_twin
from coarsegrad.models.lenet5 import lenet5
from coarsegrad.models.mlp import mlp
from coarsegrad.models.small_cnn import small_cnn
from coarsegrad.models.vgg_small import vgg_small

__all__ = ["float_twin", "lenet5", "mlp", "small_cnn", "vgg_small"]
