from __future__ import annotations

import pytest
import torch
from torch import nn

from coarsegrad.inspect import check
from coarsegrad.nn import binarize_latents_
from coarsegrad.optim import AMSBound, BAMSProd, Bop, ClippedSGD, Lookahead, Split, param_groups
from coarsegrad.quantizers import Sign
from coarsegrad.ste import Triangle
from coarsegrad.train import Recipe
from coarsegrad.train.optimizers import build_optimizer
from subjects import (
    adam,
    dense,
    net,
    norm,
    rules,
)  # fmt: skip


def by_recipe(name: str):
    def build(model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(model, Recipe(data="digits", model="mlp", optimizer=name))

    return build


def hooked(model: nn.Module) -> torch.optim.Optimizer:
    class Clamp:
        bounds_latents = True

        def __call__(self, *_: object) -> None: ...

    optimizer = adam(model)
    optimizer.register_step_post_hook(Clamp())
    return optimizer


def split(rule: type, **options):
    return lambda model: Split(model, binary=(rule, options), real=(torch.optim.SGD, {}))


def real_groups(model: nn.Module) -> list[dict]:
    return [{"params": list(model.parameters()), "binary": False}]


BOX = {"box": (-1.0, 1.0)}
OPTIMIZERS = [
    (adam, True),
    (split(torch.optim.Adam), True),
    (lambda model: Lookahead(split(torch.optim.SGD)(model)), True),
    (split(AMSBound), True),  # its box is None unless given
    (lambda model: BAMSProd(param_groups(model), box=None), True),
    # groups said to be real have no box
    (lambda model: ClippedSGD(real_groups(model), **BOX), True),
    (split(AMSBound, **BOX), False),
    (split(ClippedSGD, **BOX), False),
    (lambda model: BAMSProd(param_groups(model)), False),
    (lambda model: Lookahead(split(BAMSProd)(model)), False),
    (lambda model: split(Bop)(binarize_latents_(model)), False),
    (by_recipe("adam"), False),  # train clamps in a hook
    (by_recipe("bamsprod"), False),
    (hooked, False),
]  # fmt: skip


@pytest.mark.parametrize(("build", "found"), OPTIMIZERS, ids=range(len(OPTIMIZERS)))
def test_latents_without_box(build, found: bool) -> None:
    model = net()
    expected = [("latents-without-box", name) for name in ("0", "2", "4")] if found else []
    assert rules(check(model, optimizer=build(model))) == expected


def test_without_box_the_consequence_follows_the_derivative() -> None:
    model = net(first=dense(16, 32, input_quantizer=None, weight_quantizer=Sign(ste=Triangle())))
    first, second, _ = check(model, optimizer=adam(model))
    assert "gets no gradient any more" in first.consequence
    assert "drift away from 0" in second.consequence


def test_latents_without_owner() -> None:
    model = net()
    optimizer = BAMSProd([{"params": [*model[0].parameters(), *model[2].parameters()]}])
    assert rules(check(model, optimizer=optimizer)) == [("latents-without-owner", "4")]
    model[4].weight.requires_grad_(False)
    assert rules(check(model, optimizer=optimizer)) == []


def test_float_weights_need_no_box() -> None:
    model = nn.Sequential(nn.Linear(16, 8), norm(8), dense(8, 4, weight_quantizer=None))
    assert rules(check(model, optimizer=adam(model))) == []
