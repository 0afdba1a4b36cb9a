from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from coarsegrad.optim import BAMSProd, Bop, Split
from optim.composites import COMPOSITES, net, stepped_by
from optim.table import give, gradients, run

ADAM = (torch.optim.Adam, {"lr": 1e-2})


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_parameter_is_stepped(name: str) -> None:
    model = net()
    opt = COMPOSITES[name](model)
    assert stepped_by(model, opt)
    before = [p.detach().clone() for p in model.parameters()]
    run(opt, list(model.parameters()), range(1, 30))
    assert not any(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_is_its_two_rules_side_by_side() -> None:
    model, twin = net(), net()
    opt = Split(model, binary=(BAMSProd, {"lr": 0.1}), real=ADAM)
    latent = [twin[0].weight, twin[2].weight]
    real = [p for p in twin.parameters() if all(p is not w for w in latent)]
    apart = [BAMSProd(latent, lr=0.1), torch.optim.Adam(real, lr=1e-2)]
    for step in range(10):
        grads = gradients(list(model.parameters()), step)
        give(list(model.parameters()), grads)
        give(list(twin.parameters()), grads)
        opt.step()
        for rule in apart:
            rule.step()
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_patterns_choose_rules_by_name() -> None:
    opt = Split(
        net(),
        binary={"^0": (BAMSProd, {}), "^2": (Bop, {"gamma": 0.1})},
        real={"bias": (torch.optim.SGD, {"lr": 0.1}), "^[13].weight": ADAM},
    )
    names = [
        (type(rule).__name__, g["param_names"]) for rule in opt.rules for g in rule.param_groups
    ]
    assert names == [
        ("BAMSProd", ["0.weight"]),
        ("Bop", ["2.weight"]),
        ("SGD", ["0.bias", "1.bias", "3.bias"]),
        ("Adam", ["1.weight", "3.weight"]),
    ]


@pytest.mark.parametrize(
    ("owners", "message"),
    [
        ({"binary": None, "real": ADAM}, r"latent weight 0.weight has none; give binary=\(Rule"),
        ({"binary": (BAMSProd, {}), "real": None}, "real parameter 0.bias has none; give real="),
        ({"binary": {"^0": (BAMSProd, {})}, "real": ADAM}, "latent weight 2.weight has none"),
        (
            {"binary": {"weight": (BAMSProd, {}), "^0": (Bop, {})}, "real": ADAM},
            "latent weight 0.weight is claimed by 'weight' and '\\^0'; make the patterns of binary",
        ),
        ({"binary": (BAMSProd, {"lr": -1.0}), "real": ADAM}, "Invalid learning rate: -1.0"),
    ],
    ids=["no binary", "no real", "unclaimed", "claimed twice", "bad option"],
)
def test_refuses(owners: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(net(), **owners)


def test_refuses_a_model_without_parameters() -> None:
    with pytest.raises(ValueError, match="Split needs a model with parameters to train, got none"):
        Split(nn.ReLU(), binary=None, real=None)


def test_bop_names_a_weight_that_is_not_binary() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[0, 0] = 0.5
    with pytest.raises(ValueError, match=r"Bop needs .* but 2.weight of shape \[3, 5\] holds 0.5"):
        Split(model, binary=(Bop, {}), real=ADAM)


def test_groups_go_to_the_rule_of_their_kind() -> None:
    opt = Split(net(), binary=(BAMSProd, {}), real=ADAM)
    extra = nn.Parameter(torch.zeros(3))
    opt.add_param_group({"params": [("extra", extra)], "binary": False})
    run(opt, [extra], range(1, 3))
    assert set(opt.state[extra]) == {"step", "exp_avg", "exp_avg_sq"}
    with pytest.raises(ValueError, match="needs a group with 'binary': True or False, got keys p"):
        opt.add_param_group({"params": [nn.Parameter(torch.zeros(3))]})
    only = Split(nn.Linear(2, 2), binary=None, real=ADAM)
    with pytest.raises(
        ValueError, match=r"has no rule for binary parameters; build it with binary="
    ):
        only.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "binary": True})


def test_diagnostics_are_those_of_the_rules_that_keep_them() -> None:
    model = net()
    opt = Split(model, binary=(BAMSProd, {"diagnostics": True}), real=ADAM)
    with pytest.raises(RuntimeError, match="needs a group with diagnostics=True and a step done"):
        opt.diagnostics()
    run(opt, list(model.parameters()), range(1, 4))
    assert opt.diagnostics().keys() == {"0.weight", "2.weight", "total"}
    with pytest.raises(RuntimeError, match="needs a rule with diagnostics=True"):
        Split(net(), binary=(BAMSProd, {}), real=ADAM).diagnostics()
