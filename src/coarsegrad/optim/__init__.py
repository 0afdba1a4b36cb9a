"""Optimizers for latent and binary weights, and the routing of parameters to them."""

from coarsegrad.optim.adabound import AdaBound, AMSBound
from coarsegrad.optim.bamsprod import BAMSProd
from coarsegrad.optim.bop import Bop, Bop2ndOrder
from coarsegrad.optim.clipped import ClippedSGD, NormalizedSGD
from coarsegrad.optim.groups import param_groups
from coarsegrad.optim.lookahead import Lookahead
from coarsegrad.optim.rvs import RVS
from coarsegrad.optim.schedule import GroupSchedule
from coarsegrad.optim.split import Split

__all__ = [
    "RVS", "AMSBound", "AdaBound", "BAMSProd", "Bop", "Bop2ndOrder", "ClippedSGD", "GroupSchedule",
    "Lookahead", "NormalizedSGD", "Split", "param_groups",
]  # fmt: skip
