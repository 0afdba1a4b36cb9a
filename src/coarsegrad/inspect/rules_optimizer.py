"""Rules on who trains the latent weights; an optimizer tells by ``bounds_latents(group)``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from coarsegrad.inspect.findings import Finding
from coarsegrad.inspect.graph import has_bit_weights
from coarsegrad.nn import LatentWeight


def latents_without_box(model: nn.Module, optimizer: Optimizer) -> Iterator[Finding]:
    """Latents of 1-bit weights that no step keeps in a box.

    An optimizer with ``bounds_latents(group)``, or with a step hook whose ``bounds_latents`` is
    true, keeps them; a clamp in the training loop cannot be seen.

    Source: Courbariaux et al. 2016, arXiv:1602.02830, section 1.2; larq#29, larq#577 (a warning).
    """
    owners = _owners(optimizer)
    for name, layer in _binary_layers(model):
        owner = owners.get(layer.weight)
        if owner is None or owner[1]:
            continue
        assert layer.weight_quantizer is not None
        far = torch.tensor([100.0])
        drift = (
            "latents drift away from 0, and one that has drifted seldom changes its sign again"
            if bool(layer.weight_quantizer.ste.derivative(far) != 0)
            else "a latent that leaves the coarse derivative's support gets no gradient any more"
        )
        yield Finding(
            name,
            "latents-without-box",
            f"{owner[0]} keeps its latent weights in no box: {drift}",
            "use a rule of coarsegrad.optim with a box (BAMSProd has one; box=(-1, 1) elsewhere) "
            "or Bop; a step hook of your own that clamps says so by bounds_latents = True",
            "Courbariaux et al. 2016, arXiv:1602.02830, section 1.2; larq/larq#577",
        )


def latents_without_owner(model: nn.Module, optimizer: Optimizer) -> Iterator[Finding]:
    """Trainable latents that no group of the optimizer holds.

    Source: larq#443, a network that trained nothing, silently.
    """
    owners = _owners(optimizer)
    for name, module in model.named_modules():
        for latent in getattr(module, "latent_names", ()):
            parameter = getattr(module, latent)
            if parameter.requires_grad and parameter not in owners:
                yield Finding(
                    name,
                    "latents-without-owner",
                    f"no group of the optimizer holds its {latent}: it is never trained",
                    "build the groups with optim.param_groups(model) or optim.Split(model, ...); "
                    "a weight that is meant to stay wants requires_grad=False",
                    "larq/larq#443",
                )


def _binary_layers(model: nn.Module) -> Iterator[tuple[str, LatentWeight]]:
    for name, module in model.named_modules():
        if isinstance(module, LatentWeight) and has_bit_weights(module):
            yield name, module


def _owners(optimizer: Any, boxed: bool = False) -> dict[Tensor, tuple[str, bool]]:
    """Return for each parameter its rule's class and whether a box or a flip bounds it."""
    # torch has no public list of hooks.
    hooks = getattr(optimizer, "_optimizer_step_post_hooks", {}).values()
    boxed = boxed or any(getattr(hook, "bounds_latents", False) for hook in hooks)
    rules = getattr(optimizer, "rules", None)
    if isinstance(rules, list):
        return {p: owner for rule in rules for p, owner in _owners(rule, boxed).items()}
    bounds = getattr(optimizer, "bounds_latents", None)
    return {
        p: (type(optimizer).__name__, boxed or bool(bounds and bounds(group)))
        for group in optimizer.param_groups
        for p in group["params"]
    }
