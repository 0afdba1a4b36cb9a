"""Theorems put to the test, in float64: the networks they are about, their assumptions, lemmas.

A leaf: of the other rooms only ``reproduce`` and ``cli`` import it.
"""

from coarsegrad.theory import landscape, one_layer, online, smoothness, two_layer
from coarsegrad.theory.one_layer import *  # noqa: F403
from coarsegrad.theory.perceptron import perceptron_loss, perceptron_step
from coarsegrad.theory.smoothness import *  # noqa: F403
from coarsegrad.theory.two_layer import *  # noqa: F403

__all__ = [
    "landscape", "one_layer", "online", "perceptron_loss", "perceptron_step", "smoothness",
    "two_layer",
    *one_layer.__all__,
    *smoothness.__all__,
    *two_layer.__all__,
]  # fmt: skip
