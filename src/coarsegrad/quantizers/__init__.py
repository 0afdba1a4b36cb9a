"""Forward maps onto few levels, one a file; each takes its coarse derivative as an argument.

A quantizer is a ``torch.nn.Module`` that states its own facts (``levels``, ``bits``, ``ste``)
and gives ``split(x) -> (levels, scale)``, so that a layer can convolve integers and multiply
its output by the scale, and so that ``deploy`` can choose a packing without knowing classes.
"""

from coarsegrad.quantizers.heaviside import Heaviside
from coarsegrad.quantizers.protocol import Quantizer
from coarsegrad.quantizers.scale import Scale
from coarsegrad.quantizers.sign import Sign, binary_sign
from coarsegrad.quantizers.ternary import Ternary

__all__ = ["Heaviside", "Quantizer", "Scale", "Sign", "Ternary", "binary_sign"]
