"""What the tests of the command line share: a user's models, and what a command left."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MYNETS = """
import torch
from torch import nn
import coarsegrad as cg
from coarsegrad.quantizers import Sign


def tiny(width=16):
    return nn.Sequential(
        cg.nn.Linear(8, width, bias=False, weight_quantizer=Sign()),
        nn.BatchNorm1d(width),
        cg.nn.Linear(width, 4, bias=False, input_quantizer=Sign(), weight_quantizer=Sign()),
        nn.BatchNorm1d(4),
    )


def pair():
    print("a user's own words")
    return tiny(), torch.zeros(1, 8)


def many():
    return tiny(), torch.linspace(-1, 1, 24).reshape(3, 8)


def floats():
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    )


def float_pair():
    return floats(), torch.zeros(2, 8)


def relu():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), Sign(), nn.Linear(16, 4))


def wide(width):
    return tiny(width)


def broken():
    raise ValueError("no such\\n  width")


def leaves():
    raise SystemExit("bye")


def three():
    return 3


def twice():
    return tiny(), tiny()


def ints():
    return tiny(), torch.zeros(1, 8, dtype=torch.int64)


class Fails(nn.Module):
    def forward(self, x):
        return inside(x)


def inside(x):
    raise RuntimeError("only on Mondays")


class Pairs(nn.Module):
    def forward(self, x):
        return x, x


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)
        self.c = nn.Linear(8, 8)

    def forward(self, x):
        return self.c(self.b(self.a(x) if x.sum() > 0 else x))


instance = tiny()
number = 3
"""


class Done(NamedTuple):
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What went to standard error, its line breaks undone."""
        return " ".join(self.err.split())


Run = Callable[..., Done]
