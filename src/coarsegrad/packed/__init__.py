"""The packed file: its definition is ``spec.md`` beside this file. numpy and safetensors only."""

from coarsegrad.packed.bits import pack_bits, unpack_bits
from coarsegrad.packed.ops import Affine, Conv, Flatten, Linear, MaxPool, Op, Sign, Threshold
from coarsegrad.packed.program import Program
from coarsegrad.packed.reader import read
from coarsegrad.packed.writer import write

__all__ = [
    "Affine",
    "Conv",
    "Flatten",
    "Linear",
    "MaxPool",
    "Op",
    "Program",
    "Sign",
    "Threshold",
    "pack_bits",
    "read",
    "unpack_bits",
    "write",
]
