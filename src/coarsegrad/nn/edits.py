"""Edits of a model that can be undone: modules exchanged, inserted, given a forward, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, final

from torch import nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn.conv import Conv2d
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.nn.linear import Linear
from coarsegrad.quantizers import Quantizer

# What a quantized layer has besides what torch's layer has.
_OWN = frozenset({"pad_value", "input_quantizer", "weight_quantizer", "_modules"})


class Edit(Protocol):
    """One reversible change of a model; ``check`` raises where ``undo`` would find another one."""

    def apply(self) -> None:
        """Change the model."""

    def check(self) -> None:
        """Raise ConvertError unless the model is as ``apply`` left it."""

    def undo(self) -> None:
        """Change the model back; weights and modes stay those of now."""


def quantized(
    layer: nn.Conv2d | nn.Linear, inputs: Quantizer | None, weights: Quantizer | None
) -> Conv2d | Linear:
    """Return a quantized layer that takes over all that ``layer`` holds.

    Parameters, hooks, mode and geometry are the same objects, whatever their dtype, device or
    memory format; ``layer`` itself is left as it is.
    """
    new: Conv2d | Linear
    new = Conv2d.__new__(Conv2d) if isinstance(layer, nn.Conv2d) else Linear.__new__(Linear)
    vars(new).update(vars(layer))
    new._parameters = dict(layer._parameters)
    new._buffers = dict(layer._buffers)
    new._modules = dict(layer._modules)
    if isinstance(new, Conv2d):
        new.pad_value = 0.0
    new._set_quantizers(inputs, weights)
    operands: tuple[object, object] = (inputs, weights)
    for quantizer in operands:
        if isinstance(quantizer, nn.Module):
            quantizer.train(layer.training).to(layer.weight)
    return new


@final
@dataclass
class Exchange:
    """``old`` becomes ``new`` in each slot (parent, key); a layer's state moves back on undo."""

    slots: list[tuple[nn.Module, str]]
    name: str
    old: nn.Module
    new: nn.Module

    def apply(self) -> None:
        """Put ``new`` into the slots."""
        for parent, key in self.slots:
            parent._modules[key] = self.new

    def check(self) -> None:
        """Raise where a slot holds something else than ``new``."""
        for parent, key in self.slots:
            if parent._modules.get(key) is not self.new:
                raise _changed(self.name, f"it is now {type(parent._modules.get(key)).__name__}")

    def undo(self) -> None:
        """Put ``old`` back, with the parameters, hooks and mode of now."""
        if isinstance(self.new, LatentWeight):
            state = {key: value for key, value in vars(self.new).items() if key not in _OWN}
            vars(self.old).update(state)
        self.old.training = self.new.training
        for parent, key in self.slots:
            parent._modules[key] = self.old


@final
@dataclass
class Insert:
    """A child of an ``nn.Sequential`` right before or behind another; all other keys stay."""

    parent: nn.Sequential
    name: str
    key: str
    neighbour: str
    before: bool
    module: nn.Module

    def apply(self) -> None:
        """Insert the child."""
        children = list(self.parent._modules.items())
        place = [key for key, _ in children].index(self.neighbour)
        children.insert(place + (not self.before), (self.key, self.module))
        self.parent._modules.clear()
        self.parent._modules.update(children)

    def check(self) -> None:
        """Raise where the child is gone."""
        if self.parent._modules.get(self.key) is not self.module:
            raise _changed(self.name, "the inserted norm is gone")

    def undo(self) -> None:
        """Remove the child."""
        del self.parent._modules[self.key]


@final
@dataclass
class NewForward:
    """A module gets a class with another forward, and submodules that it calls."""

    module: nn.Module
    name: str
    made: type[nn.Module]
    added: dict[str, nn.Module] = field(default_factory=dict)
    before: type[nn.Module] = field(init=False)

    def __post_init__(self) -> None:
        self.before = type(self.module)

    def apply(self) -> None:
        """Exchange the class and add the submodules."""
        self.module._modules.update(self.added)
        self.module.__class__ = self.made

    def check(self) -> None:
        """Raise where the class is another one or a submodule is gone."""
        if type(self.module) is not self.made:
            raise _changed(self.name, f"its class is now {type(self.module).__name__}")
        for key, module in self.added.items():
            if self.module._modules.get(key) is not module:
                raise _changed(self.name, f"its inserted {key} is gone")

    def undo(self) -> None:
        """Give the class back and remove the submodules."""
        self.module.__class__ = self.before
        for key in self.added:
            del self.module._modules[key]


@final
@dataclass
class Freeze:
    """A layer's bias stops asking for gradients."""

    layer: nn.Module

    def apply(self) -> None:
        """Freeze the bias."""
        self.layer.get_parameter("bias").requires_grad_(False)

    def check(self) -> None:
        """A frozen bias can always be thawed."""

    def undo(self) -> None:
        """Thaw the bias."""
        if self.layer._parameters.get("bias") is not None:
            self.layer.get_parameter("bias").requires_grad_(True)


def _changed(name: str, what: str) -> ConvertError:
    return ConvertError(
        f"undo needs the model as convert left it, but {name or 'the model'} was changed since: "
        f"{what}; undo later conversions first, or put back what convert had put there"
    )
