"""Split: one rule for latent binary weights, one for real parameters, one optimizer to torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, final

from torch import nn
from torch.optim import Optimizer

from coarsegrad.optim.composite import Composite
from coarsegrad.optim.groups import param_groups

Owner = tuple[type[Optimizer], Mapping[str, Any]]
Owners = Owner | Mapping[str, Owner] | None


@final
class Split(Composite):
    """Two rules, one ``step``, one ``state_dict``; schedulers see the groups of both.

    Args:
        model: its modules name their latent weights (``latent_names``); the rest is real.
        binary: (rule, options) for latent weights, such as ``(Bop, {"gamma": 1e-3})``; or a
            mapping from patterns of names (``re.search``) to such pairs.
        real: likewise for everything else; torch's own optimizers work. None only if there is
            nothing.

    A scheduler that multiplies ``lr`` moves both rules; the groups carry ``binary`` and
    ``param_names``. ``add_param_group`` takes a group with ``binary`` and gives it to the first
    rule of its kind.

    Raises:
        ValueError: a parameter without owner or claimed by two patterns, by name; a parameter
            that is latent in one module and real in another; what a rule refuses.

    >>> import torch
    >>> from coarsegrad.models import mlp
    >>> from coarsegrad.optim import BAMSProd
    >>> opt = Split(mlp(), binary=(BAMSProd, {"lr": 1e-2}), real=(torch.optim.Adam, {"lr": 1e-3}))
    >>> [(group["binary"], group["lr"]) for group in opt.param_groups]
    [(True, 0.01), (False, 0.001)]
    """

    def __init__(self, model: nn.Module, *, binary: Owners, real: Owners) -> None:
        kinds = {group["binary"]: group["params"] for group in param_groups(model)}
        rules: list[Optimizer] = []
        for kind, owners in ((True, binary), (False, real)):
            for (rule, options), named in _assign(kinds.get(kind, []), owners, binary=kind):
                rules.append(rule([{"params": named, "binary": kind}], **options))
        if not rules:
            raise ValueError("Split needs a model with parameters to train, got none")
        super().__init__(rules)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the first rule of its kind, binary or real.

        Raises:
            ValueError: the group lacks ``binary``, or there is no rule of its kind.
        """
        if "binary" not in param_group:
            raise ValueError(
                "Split.add_param_group needs a group with 'binary': True or False, got keys "
                f"{', '.join(param_group)}; optim.param_groups(module) makes such groups"
            )
        for rule in self.rules:
            if rule.param_groups[0]["binary"] == param_group["binary"]:
                rule.add_param_group(param_group)
                return
        kind = "binary" if param_group["binary"] else "real"
        raise ValueError(
            f"Split has no rule for {kind} parameters; build it with {kind}=(Rule, {{}})"
        )


def _assign(named: list[Any], owners: Owners, *, binary: bool) -> list[tuple[Owner, list[Any]]]:
    """Return the owners that own something, each with its (name, parameter) pairs."""
    argument = "binary" if binary else "real"
    what = "latent weight" if binary else "real parameter"
    table: Mapping[str, Owner] = (
        {} if owners is None else owners if isinstance(owners, Mapping) else {"": owners}
    )
    shares: dict[str, list[Any]] = {pattern: [] for pattern in table}
    for name, parameter in named:
        claims = [pattern for pattern in table if re.search(pattern, name)]
        if not claims:
            raise ValueError(
                f"Split needs an owner for every parameter, but the {what} {name} has none; give "
                f"{argument}=(Rule, options), or a pattern that matches it"
            )
        if len(claims) > 1:
            raise ValueError(
                f"Split needs one owner for every parameter, but the {what} {name} is claimed by "
                f"{' and '.join(map(repr, claims))}; make the patterns of {argument} exclusive"
            )
        shares[claims[0]].append((name, parameter))
    return [(table[pattern], share) for pattern, share in shares.items() if share]
