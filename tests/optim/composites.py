"""Optimizers made of optimizers, on a small network with latent and real parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn

from coarsegrad.nn import Linear
from coarsegrad.optim import RVS, AdaBound, BAMSProd, Bop, Lookahead, Split
from coarsegrad.quantizers import Sign


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Two binary layers and two real ones; weights are -1 and +1, as Bop wants them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(
            Linear(4, 5, weight_quantizer=Sign()),
            nn.BatchNorm1d(5),
            Linear(5, 3, bias=False, weight_quantizer=Sign()),
            nn.Linear(3, 2),
        )
    with torch.no_grad():
        for layer in (made[0], made[2]):
            layer.weight.copy_(torch.where(layer.weight >= 0, 1.0, -1.0))
    return made.to(dtype)


def _split(model: nn.Module, rule: Any = BAMSProd, **options: Any) -> Split:
    return Split(model, binary=(rule, options), real=(torch.optim.Adam, {"lr": 1e-2}))


COMPOSITES: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Split(BAMSProd, Adam)": _split,
    "Split(Bop, Adam)": lambda m: _split(m, Bop, gamma=0.1, threshold=1e-2),
    "Lookahead(AdaBound)": lambda m: Lookahead(AdaBound(m.parameters(), lr=0.1), k=2),
    "Lookahead(BAMSProd)": lambda m: Lookahead(BAMSProd(m.parameters()), k=3, alpha=0.8),
    "Split in Lookahead": lambda m: Lookahead(_split(m, Bop, gamma=0.3, threshold=1e-2), k=2),
    "RVS(BAMSProd), ADMM": lambda m: RVS(
        BAMSProd(m.parameters()), lam=0.1, beta=0.5, penalty="transformed_l1", admm=True, warmup=9
    ),
    "RVS in Lookahead": lambda m: Lookahead(
        RVS(AdaBound(m.parameters()), lam=0.1, beta=0.5, support="irreversible", every=5), k=2
    ),
}


def stepped_by(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    """Return whether the optimizer's groups hold exactly the model's parameters."""
    held = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    return {id(p) for p in held} == {id(p) for p in model.parameters()}
