"""The packed file: its definition is ``spec.md`` beside this file. numpy and safetensors only."""

from coarsegrad.packed.bits import pack_bits, unpack_bits
from coarsegrad.packed.kernels import runs_on_bits
from coarsegrad.packed.ops import (
    Affine,
    AvgPool,
    Conv,
    Flatten,
    Levels,
    Linear,
    MaxPool,
    Op,
    Relu,
    Sign,
    Threshold,
)
from coarsegrad.packed.program import Program
from coarsegrad.packed.reader import read
from coarsegrad.packed.weights import largest_sum, pack_digits, pack_ternary, unpack_weights
from coarsegrad.packed.writer import write

__all__ = [
    "Affine",
    "AvgPool",
    "Conv",
    "Flatten",
    "Levels",
    "Linear",
    "MaxPool",
    "Op",
    "Program",
    "Relu",
    "Sign",
    "Threshold",
    "largest_sum",
    "pack_bits",
    "pack_digits",
    "pack_ternary",
    "read",
    "runs_on_bits",
    "unpack_bits",
    "unpack_weights",
    "write",
]
