"""Forward maps onto few levels, one a file; each takes its coarse derivative as an argument.

A quantizer is a ``torch.nn.Module`` that states its own facts (``levels``, ``bits``, ``ste``)
and gives ``split(x) -> (levels, scale)``, so that a layer can convolve integers and multiply
its output by the scale, and so that ``deploy`` can choose a packing without knowing classes.
"""

from coarsegrad.quantizers.checks import CoarseGradientWarning
from coarsegrad.quantizers.dorefa import DoReFa
from coarsegrad.quantizers.gaussian import gaussian_step, half_gaussian_error, half_gaussian_step
from coarsegrad.quantizers.heaviside import Heaviside
from coarsegrad.quantizers.precision import Precision, precision
from coarsegrad.quantizers.protocol import Quantizer
from coarsegrad.quantizers.quant_relu import Learning, QuantReLU
from coarsegrad.quantizers.quant_weight import QuantWeight, WeightScale
from coarsegrad.quantizers.rounding import Rounding
from coarsegrad.quantizers.scale import Scale
from coarsegrad.quantizers.sign import Sign, binary_sign
from coarsegrad.quantizers.ternary import Ternary

__all__ = [
    "CoarseGradientWarning",
    "DoReFa",
    "Heaviside",
    "Learning",
    "Precision",
    "QuantReLU",
    "QuantWeight",
    "Quantizer",
    "Rounding",
    "Scale",
    "Sign",
    "Ternary",
    "WeightScale",
    "binary_sign",
    "gaussian_step",
    "half_gaussian_error",
    "half_gaussian_step",
    "precision",
]
