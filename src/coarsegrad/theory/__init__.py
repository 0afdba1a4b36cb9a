"""Theorems put to the test, in float64: the networks they are about, their assumptions, lemmas.

A leaf: of the other rooms only ``reproduce`` and ``cli`` import it.
"""

from coarsegrad.theory import landscape, online, two_layer
from coarsegrad.theory.perceptron import perceptron_loss, perceptron_step
from coarsegrad.theory.two_layer import *  # noqa: F403

__all__ = [
    "landscape", "online", "perceptron_loss", "perceptron_step", "two_layer", *two_layer.__all__,
]  # fmt: skip
