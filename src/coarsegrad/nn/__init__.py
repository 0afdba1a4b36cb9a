"""Quantized layers: torch's own, plus a quantizer for the input and one for the weights."""

from coarsegrad.nn.conv import Conv2d
from coarsegrad.nn.convert import convert
from coarsegrad.nn.latent import LatentWeight, binarize_latents_
from coarsegrad.nn.linear import Linear
from coarsegrad.nn.normalized import NormalizedBatchNorm
from coarsegrad.nn.plan import Change, Plan

__all__ = [
    "Change",
    "Conv2d",
    "LatentWeight",
    "Linear",
    "NormalizedBatchNorm",
    "Plan",
    "binarize_latents_",
    "convert",
]
