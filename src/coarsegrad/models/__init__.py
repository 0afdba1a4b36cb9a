"""Architectures, one a file, each readable from top to bottom."""

from coarsegrad.models.binarized_lenet5 import binarized_lenet5
from coarsegrad.models.cnn7 import cnn7
from coarsegrad.models.cosines import Cosines
from coarsegrad.models.float_twin import float_twin
from coarsegrad.models.lenet5 import LeNetLayout, lenet5
from coarsegrad.models.mlp import mlp
from coarsegrad.models.resnet20 import resnet20
from coarsegrad.models.small_cnn import small_cnn
from coarsegrad.models.vgg11 import vgg11
from coarsegrad.models.vgg_small import vgg_small

__all__ = [
    "Cosines",
    "LeNetLayout",
    "binarized_lenet5",
    "cnn7",
    "float_twin",
    "lenet5",
    "mlp",
    "resnet20",
    "small_cnn",
    "vgg11",
    "vgg_small",
]
