"""Routing: which parameters are latent binary weights, and which are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def param_groups(
    model: nn.Module,
    *,
    binary: Mapping[str, Any] | None = None,
    real: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return two parameter groups: latent binary weights, and everything else.

    A module states its latent parameters in ``latent_names``; no tags, no name matching. The
    groups carry ``binary=True`` and ``binary=False``. Parameters shared between modules are
    listed once; frozen ones (``requires_grad=False``) are left out; an empty group is dropped. The
    parameters come with their names, which torch keeps in the group as ``param_names``.

    Args:
        model: any module.
        binary: options of the binary group, such as ``{"lr": 1e-2}``.
        real: options of the real group.

    Raises:
        ValueError: a parameter is latent in one module and real in another.

    >>> from coarsegrad.models import mlp
    >>> [(g["binary"], len(g["params"])) for g in param_groups(mlp(), real={"lr": 1e-3})]
    [(True, 3), (False, 6)]
    """
    claims: dict[nn.Parameter, dict[bool, str]] = {}
    for path, module in model.named_modules(remove_duplicate=True):
        latent = getattr(module, "latent_names", ())
        for name, parameter in module.named_parameters(recurse=False):
            place = f"{path}.{name}" if path else name
            claims.setdefault(parameter, {}).setdefault(name in latent, place)
    for places in claims.values():
        if len(places) == 2:
            raise ValueError(
                f"param_groups needs each parameter to be latent or real, but {places[True]} is "
                f"a latent weight and the same tensor is a real parameter as {places[False]}; "
                "untie them, or quantize both"
            )
    groups: list[dict[str, Any]] = [
        {"params": [(c[kind], p) for p, c in claims.items() if kind in c and p.requires_grad],
         "binary": kind, **(options or {})}
        for kind, options in ((True, binary), (False, real))
    ]  # fmt: skip
    return [group for group in groups if group["params"]]
