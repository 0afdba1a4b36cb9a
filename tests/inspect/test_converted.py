"""What ``nn.convert`` makes of plain torch networks: ``check`` has nothing to say of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from coarsegrad.inspect import check, summary
from coarsegrad.nn import convert
from float_nets import FunctionalBlock, Lenet, MobileNet, ResNet, TwoHeads, mlp, vgg
from subjects import rules

PLANE, ROW = (1, 16, 16), (12,)
CHAINS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (vgg, PLANE),
    (lambda: vgg(norm=False), PLANE),
    (Lenet, PLANE),
    (mlp, ROW),
]
BRANCHED: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (ResNet, PLANE),
    (lambda: ResNet(FunctionalBlock), PLANE),
    (MobileNet, (3, 16, 16)),
    (TwoHeads, ROW),
]


@pytest.mark.parametrize(("build", "shape"), CHAINS)
def test_a_chain_has_no_findings(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = convert(build()).model
    x = torch.rand(64, *shape) * 2 - 1
    assert rules(check(model, x)) == []
    assert summary(model, x).not_packable is None


@pytest.mark.parametrize(("build", "shape"), BRANCHED)
def test_of_a_branched_model_it_says_only_that_it_does_not_pack(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = convert(build()).model
    x = torch.rand(64, *shape) * 2 - 1
    assert [rule for rule, _ in rules(check(model))] == []
    assert [rule for rule, _ in rules(check(model, x))] == ["not-packable"]
