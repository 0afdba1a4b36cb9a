r"""Coarse derivatives g'(x): what the backward pass uses where the forward map is flat.

A quantizer q has derivative 0 almost everywhere. Its *coarse gradient* (straight-through
estimator, STE) replaces q'(x) by the derivative g'(x) of a proxy g. Each class here is one
such proxy, chosen independently of the forward map: ``Sign(ste=ClippedIdentity())``.

Assumption 2 (Long, Yin, Xin 2020, arXiv:2011.11256) is the condition under which the coarse
gradient provably trains a two-layer network: g(x) = 0 for x <= 0 and
0 < delta <= g'(x) <= delta~ < inf on (0, B]. ``ReLU`` meets it for every B, ``ClippedReLU`` up
to its ceiling. The two-sided proxies that fit a sign all fail its first half; ``assumption2``
says so, with the constants.
"""

from coarsegrad.ste.derivative import Assumption2, CoarseDerivative, coarse
from coarsegrad.ste.one_sided import ClippedReLU, LogTailedReLU, ReLU, ReverseExp
from coarsegrad.ste.two_sided import ClippedIdentity, Identity, Sigmoid, SwishSign, Triangle

__all__ = [
    "Assumption2",
    "ClippedIdentity",
    "ClippedReLU",
    "CoarseDerivative",
    "Identity",
    "LogTailedReLU",
    "ReLU",
    "ReverseExp",
    "Sigmoid",
    "SwishSign",
    "Triangle",
    "coarse",
]
