"""The two-linear-layer network of Long, Yin, Xin 2020 (arXiv:2011.11256), in float64.

The network and its coarse gradient, the assumptions, the lemmas of section 5 checked along a
run, and the experiment of section 8.1.
"""

from coarsegrad.theory.two_layer.assumptions import (
    Assumption1,
    assumption1,
    own_pull,
    pull_range,
)
from coarsegrad.theory.two_layer.classes import (
    Law,
    annulus,
    circle,
    line_mass,
    planes,
    samples,
)
from coarsegrad.theory.two_layer.decomposition import (
    component,
    components,
    principal_angle,
    unit,
    weight_norm,
)
from coarsegrad.theory.two_layer.experiment import Outcome, Setting, experiment, initial
from coarsegrad.theory.two_layer.lemmas import Check, Step, lemma_step
from coarsegrad.theory.two_layer.monitor import Monitored, Proposition1, monitor
from coarsegrad.theory.two_layer.network import (
    TwoLayer,
    block_readout,
    margins,
    quantized_relu,
)
from coarsegrad.theory.two_layer.sweeps import Sweep, on_rays, on_samples

__all__ = [
    "Assumption1", "Check", "Law", "Monitored", "Outcome", "Proposition1", "Setting", "Step",
    "Sweep", "TwoLayer", "annulus", "assumption1", "block_readout", "circle", "component",
    "components", "experiment", "initial", "lemma_step", "line_mass", "margins", "monitor",
    "on_rays", "on_samples", "own_pull", "planes", "principal_angle", "pull_range",
    "quantized_relu", "samples", "unit", "weight_norm",
]  # fmt: skip
