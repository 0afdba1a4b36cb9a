"""Models for the tests of ``inspect``: those of the package, sane ones and odd ones."""

from __future__ import annotations

import copy
import inspect as signatures

import torch
from torch import nn

from coarsegrad import models
from coarsegrad.inspect import Findings
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.ste import Identity
from nets import signs, weights

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 32, 32), (3, 224, 224), (784,)]


def buildable() -> list[str]:
    """The models that need no arguments."""
    parameters = {
        name: signatures.signature(getattr(models, name)).parameters.values()
        for name in models.__all__
    }
    return [n for n, ps in parameters.items() if all(p.default is not p.empty for p in ps)]


# What has no packed form, and the words of the message that says why.
NOT_CHAINS = {"resnet20": "branches and shortcuts", "cnn7": "normalize"}


def example(net: nn.Module) -> torch.Tensor:
    """A batch that the network accepts, whichever it is."""
    for shape in SHAPES:
        x = torch.randint(-128, 128, (2, *shape)) / 128
        try:
            copy.deepcopy(net).eval()(x)
        except RuntimeError:
            continue
        return x
    raise AssertionError("add the model's input to SHAPES")


class TwoBits(nn.Module):
    """Levels -1, -1/3, 1/3, 1 with a learned scale: k-bit, and a parameter of its own."""

    levels: tuple[float, ...] = (-1.0, -1 / 3, 1 / 3, 1.0)
    bits: int = 2
    ste = Identity()

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ((x.clamp(-1, 1) + 1) * 1.5).round() / 1.5 - 1, self.alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.split(x)[0] * self.alpha


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Linear(16, 16, input_quantizer=signs(), weight_quantizer=weights("none"))
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)) + x)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Linear(16, 4, input_quantizer=signs(), weight_quantizer=weights("none"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def dense(i: int, o: int, **k) -> Linear:
    """1-bit weights and inputs, no bias."""
    return Linear(i, o, **{"bias": False, "input_quantizer": signs(),
                           "weight_quantizer": weights("none"), **k})  # fmt: skip


def conv(i: int, o: int, **k) -> Conv2d:
    return Conv2d(i, o, 3, **{"bias": False, "input_quantizer": signs(),
                              "weight_quantizer": weights("none"), **k})  # fmt: skip


def norm(n: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(n)


def net(*between: nn.Module, first: nn.Module | None = None) -> nn.Sequential:
    """A sane network of three dense layers; ``between`` stands behind the first batch norm."""
    return nn.Sequential(first or dense(16, 32, input_quantizer=None), norm(32), *between,
                         dense(32, 32), norm(32), dense(32, 4), norm(4))  # fmt: skip


def shifted(by: float) -> nn.Sequential:
    made = net()
    made[1].bias.data.fill_(by)
    return made


def rules(found: Findings) -> list[tuple[str, str]]:
    return [(finding.rule, finding.layer) for finding in found]


X = torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())
