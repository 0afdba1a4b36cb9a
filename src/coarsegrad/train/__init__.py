"""Training: a recipe in, a run folder out. Lightning trains; this room says what."""

from coarsegrad.train.classification import Classifier
from coarsegrad.train.recipe import Recipe, read_recipe, recipe_path
from coarsegrad.train.run import Result, load_run, train

__all__ = [
    "Classifier",
    "Recipe",
    "Result",
    "load_run",
    "read_recipe",
    "recipe_path",
    "train",
]
