from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coarsegrad import models
from coarsegrad.errors import InputError
from coarsegrad.inspect import check, summary
from coarsegrad.inspect.check import (
    OF_A_LARGE_BATCH,
    OF_PACKING,
    OF_THE_BATCH,
    OF_THE_GRAPH,
    OF_THE_INPUT,
    OF_THE_OPTIMIZER,
    name_of,
)
from coarsegrad.optim import BAMSProd, Split, param_groups
from coarsegrad.quantizers import Sign
from nets import signs
from subjects import (
    NOT_CHAINS,
    PIXELS,
    Shortcut,
    Untraceable,
    X,
    adam,
    buildable,
    conv,
    dense,
    example,
    net,
    norm,
    rules,
    shifted,
)  # fmt: skip


@pytest.mark.parametrize("name", buildable())
def test_models_have_no_findings_at_initialisation(name: str) -> None:
    torch.manual_seed(0)
    model = getattr(models, name)()
    shape = example(model).shape[1:]
    batch = torch.randint(-128, 128, (32, *shape)) / 128
    found = check(model, batch, BAMSProd(param_groups(model)))
    if name in NOT_CHAINS:
        assert [rule for rule, _ in rules(found)] == ["not-packable"]
        assert NOT_CHAINS[name] in str(found).replace("\n  ", " ")
        return
    if name == "binarized_lenet5":
        # Its 1-bit ReLUs are the paper's, and just what the rule is about.
        assert {rule for rule, _ in rules(found)} == {"one-bit-relu"}
        return
    assert rules(found) == []
    assert found.not_applied == ()
    assert str(found).splitlines()[0] == "nothing found"
    assert not found


def converted() -> nn.Sequential:
    """What a conversion makes of conv, batch norm, ReLU, pool: the ReLUs are gone."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Identity(),
        conv(8, 16, padding=1), nn.BatchNorm2d(16), nn.Identity(), nn.MaxPool2d(2),
        conv(16, 16, padding=1), nn.BatchNorm2d(16), nn.Identity(), nn.Dropout(0.5),
        conv(16, 16, padding=1), nn.BatchNorm2d(16), nn.Identity(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def test_a_converted_network_has_no_findings() -> None:
    torch.manual_seed(0)
    model = converted()
    real = (torch.optim.Adam, {"lr": 1e-3})
    found = check(model, PIXELS, Split(model, binary=(BAMSProd, {}), real=real))
    assert rules(found) == []


def test_a_frozen_bias_is_idle_on_purpose() -> None:
    model = net(first=dense(16, 32, input_quantizer=None, bias=True))
    model[0].bias.requires_grad_(False)
    assert rules(check(model)) == []


def test_binary_inputs_may_be_taken_by_their_sign() -> None:
    model = net(first=dense(16, 32))
    assert rules(check(model, X.sign())) == []
    assert ("binarized-input", "0") in rules(check(model, X))


def test_a_branch_is_reported_once_as_not_packable() -> None:
    found = check(Shortcut(), torch.randn(64, 16))
    assert ("not-packable", "Shortcut") in rules(found)
    (finding,) = [f for f in found if f.rule == "not-packable"]
    assert "branches and shortcuts have no packed form" in finding.consequence


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (lambda: net(Sign(scale="tensor")), "data-dependent-scale"),
        (lambda: net(nn.ReLU()), "relu-before-sign"),
        (lambda: net(signs(), norm(32)), "misplaced-batch-norm"),
    ],
)
def test_what_another_rule_has_named_is_not_repeated(bad, rule: str) -> None:
    torch.manual_seed(0)
    names = [name for name, _ in rules(check(bad(), X))]
    assert rule in names
    assert "not-packable" not in names


def test_an_untraceable_model_still_gets_the_other_rules() -> None:
    model = Untraceable()
    model.layer.input_quantizer = Sign(scale="tensor")
    found = check(model, torch.ones(40, 16), adam(model))
    names = [name for name, _ in rules(found)]
    assert {"data-dependent-scale", "latents-without-box", "dead-inputs", "not-packable"} <= set(
        names
    )
    skipped = {s.rule: s.reason for s in found.not_applied}
    assert set(skipped) == {name_of(rule) for rule in (*OF_THE_GRAPH, *OF_THE_INPUT)}
    assert all(reason.startswith("torch.fx cannot trace") for reason in skipped.values())


def test_a_shared_module_and_dead_features_of_sequences() -> None:
    """Features of a dense layer are in the last dimension: one that is constant over the rest."""
    model = nn.Sequential(dense(4, 4))
    batch = torch.randn(32, 6, 4, generator=torch.Generator().manual_seed(0))
    batch[..., :2] = 3.0
    assert ("dead-inputs", "0") in rules(check(model, batch))
    batch[0, 0, :2] = -3.0
    assert ("dead-inputs", "0") not in rules(check(model, batch))


def test_few_samples_say_nothing_of_dead_inputs() -> None:
    found = check(shifted(20), X[:31])
    assert [s.rule for s in found.not_applied if "32 samples" in s.reason] == [
        "dead-inputs", "one-bit-relu"]  # fmt: skip
    assert rules(found) == [("saturated-inputs", "2")]


def test_statistics_that_have_seen_data_are_used() -> None:
    """Fresh norms take the batch's statistics; trained ones their own, as deployed."""
    model = net()
    model[1].running_mean.fill_(100)
    assert rules(check(model, X)) == []
    model[1].num_batches_tracked.fill_(1)
    assert ("dead-inputs", "2") in rules(check(model, X))
    assert rules(check(net(), X[:1])) == []  # one sample has no statistics


def test_the_model_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    model = net(nn.Dropout(0.5))
    model[1].eval()
    optimizer = BAMSProd(param_groups(model))
    model(X).sum().backward()
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    state = copy.deepcopy(optimizer.state_dict())
    modes = [module.training for module in model.modules()]
    rng = torch.get_rng_state()
    check(model, X, optimizer)
    assert torch.equal(rng, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert (p.grad is None) == (grad is None)
        assert grad is None or torch.equal(grad, p.grad)
    assert str(state) == str(optimizer.state_dict())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Drawing(nn.Module):
    """Draws also in evaluation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand(())


def test_random_numbers_are_left_as_they_are() -> None:
    model = nn.Sequential(Drawing(), dense(16, 4))
    rng = torch.get_rng_state()
    check(model, X)
    summary(model, X)
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize(
    ("batch", "message"),
    [(torch.zeros(2, 3), r"accepts, got torch.float32 \[2, 3\]"), (torch.zeros(0, 16), "N >= 1")],
)
def test_a_batch_that_does_not_fit(batch: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=f"^check needs an example batch.*{message}"):
        check(net(), batch)


def test_what_was_not_applied_is_said() -> None:
    found = check(net())
    text = str(found)
    assert text.startswith("nothing found\nnot applied, since no batch was given: ")
    assert "not applied, since no optimizer was given: latents-without-box" in text
    assert {s.rule for s in found.not_applied} == {
        name_of(rule) for rule in (*OF_A_LARGE_BATCH, *OF_THE_BATCH, *OF_PACKING, *OF_THE_OPTIMIZER)
    }
