"""Running a copy of a model once, with hooks that note what each call of a module did."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coarsegrad.errors import InputError
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a module: its name (``NAME@2`` the second time), shapes with the batch."""

    name: str
    module: nn.Module
    input: Shape | None
    output: Shape | None


def evaluation_copy(model: nn.Module, what: str) -> nn.Module:
    """Return a copy in evaluation mode, so that the caller's model stays as it is.

    Raises:
        InputError: the model cannot be copied.
    """
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise InputError(
            f"{what} needs a model that can be copied, got {type(model).__name__}, which fails "
            f"with: {error}; run it once on a batch if it is lazy"
        ) from error


def run(model: nn.Module, x: Tensor, what: str) -> None:
    """Run ``model`` on ``x`` where its parameters are, without gradients.

    Raises:
        InputError: ``x`` is no batch, or not one that the model accepts.
    """
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        got = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            f"{what} needs an example batch, a tensor of shape (N, ...) with N >= 1, got {got}"
        )
    device = next((p.device for p in model.parameters()), x.device)
    try:
        with torch.no_grad():
            model(x.detach().to(device))
    except Exception as error:
        raise InputError(
            f"{what} needs an example batch that {type(model).__name__} accepts, got "
            f"{x.dtype} {list(x.shape)}, on which it fails with: {error}"
        ) from error


@contextmanager
def same_random_numbers(model: nn.Module) -> Iterator[None]:
    """Put torch's random numbers back at the end: a run draws some, and so may a trace."""
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        yield


def calls(model: nn.Module, x: Tensor, what: str) -> list[Call]:
    """Return the calls of layers and other modules without children, in order of execution."""
    found: list[Call] = []
    named = names(model)

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found.append(Call(named(module), module, _shape([args, kwargs]), _shape(output)))

    hooks: list[Any] = []
    for module in leaves(model):
        hooks.append(module.register_forward_hook(note, with_kwargs=True))
    with removing(hooks):
        run(model, x, what)
    return found


def leaves(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that do the work: layers, quantizers, and whatever has no children.

    A module with children that owns parameters itself, such as attention, is one of them too.
    """
    inside = {
        child
        for module in model.modules()
        if isinstance(module, LatentWeight)
        for child in module.modules()
        if child is not module
    }
    for module in model.modules():
        whole = (
            isinstance(module, (LatentWeight, Quantizer)) or next(module.children(), None) is None
        )
        owns = next(module.parameters(recurse=False), None) is not None
        if module not in inside and (whole or owns):
            yield module


def names(model: nn.Module) -> Callable[[nn.Module], str]:
    """Return a function that names each call of a module as ``deploy`` does: 3, then 3@2."""
    paths = {module: path for path, module in model.named_modules()}
    counts = Counter[nn.Module]()

    def name(module: nn.Module) -> str:
        counts[module] += 1
        path = paths[module] or type(module).__name__
        return path if counts[module] == 1 else f"{path}@{counts[module]}"

    return name


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in nested tuples, lists and mappings, or None."""
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (tuple, list, dict)):
        return None
    return next((t for t in map(first_tensor, parts) if t is not None), None)


def _shape(value: Any) -> Shape | None:
    tensor = first_tensor(value)
    return None if tensor is None else tuple(tensor.shape)


@contextmanager
def removing(hooks: list[Any]) -> Iterator[None]:
    """Remove hooks at the end of the block."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
