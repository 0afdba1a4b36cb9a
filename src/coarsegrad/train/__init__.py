"""Training: a recipe in, a run folder out. Lightning trains; this room says what."""

from coarsegrad.train.averaging import AverageLatents
from coarsegrad.train.classification import Classifier
from coarsegrad.train.cosface import cosface
from coarsegrad.train.diagnosing import LogDiagnostics
from coarsegrad.train.ema import LatentEMA, averaged
from coarsegrad.train.load import load_run
from coarsegrad.train.local_smoothness import LocalSmoothness, local_smoothness
from coarsegrad.train.recipe import Recipe, read_recipe, recipe_path
from coarsegrad.train.run import Result, train
from coarsegrad.train.shapes import input_shape
from coarsegrad.train.smoothness import Smoothness
from coarsegrad.train.sparse import MeasureSparse, at_twin

__all__ = [
    "AverageLatents",
    "Classifier",
    "LatentEMA",
    "LocalSmoothness",
    "LogDiagnostics",
    "MeasureSparse",
    "Recipe",
    "Result",
    "Smoothness",
    "at_twin",
    "averaged",
    "cosface",
    "input_shape",
    "load_run",
    "local_smoothness",
    "read_recipe",
    "recipe_path",
    "train",
]
