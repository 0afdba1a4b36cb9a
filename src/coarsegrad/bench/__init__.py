"""Honest comparisons: a packed file beside its float twin in torch and ONNX Runtime."""

from coarsegrad.bench.compare import Comparison, Contestant, StageTime, compare
from coarsegrad.bench.machine import Machine, this_machine
from coarsegrad.bench.timing import medians

__all__ = [
    "Comparison",
    "Contestant",
    "Machine",
    "StageTime",
    "compare",
    "medians",
    "this_machine",
]
