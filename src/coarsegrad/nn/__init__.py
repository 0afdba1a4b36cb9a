"""Quantized layers: torch's own, plus a quantizer for the input and one for the weights."""

from coarsegrad.nn.conv import Conv2d
from coarsegrad.nn.latent import LatentWeight, binarize_latents_
from coarsegrad.nn.linear import Linear

__all__ = ["Conv2d", "LatentWeight", "Linear", "binarize_latents_"]
