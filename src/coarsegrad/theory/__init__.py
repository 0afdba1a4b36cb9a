"""Numerical experiments of the papers: networks, assumptions and lemmas, in float64.

A leaf: of the other rooms only ``reproduce`` and ``cli`` import it.
"""

from coarsegrad.theory import one_layer, smoothness, two_layer
from coarsegrad.theory.one_layer import *  # noqa: F403
from coarsegrad.theory.perceptron import perceptron_loss, perceptron_step
from coarsegrad.theory.smoothness import *  # noqa: F403
from coarsegrad.theory.two_layer import *  # noqa: F403

__all__ = [
    "one_layer", "perceptron_loss", "perceptron_step", "smoothness", "two_layer",
    *one_layer.__all__,
    *smoothness.__all__,
    *two_layer.__all__,
]  # fmt: skip
