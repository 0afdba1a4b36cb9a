"""Optimizers for latent binary weights, and the routing of parameters to them."""

from coarsegrad.optim.bamsprod import BAMSProd
from coarsegrad.optim.groups import param_groups

__all__ = ["BAMSProd", "param_groups"]
