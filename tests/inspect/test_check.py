from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from coarsegrad import models
from coarsegrad.errors import InputError
from coarsegrad.inspect import Finding, Findings, NotApplied, check, summary
from coarsegrad.inspect.check import (
    OF_A_LARGE_BATCH,
    OF_LAYERS,
    OF_PACKING,
    OF_THE_BATCH,
    OF_THE_GRAPH,
    OF_THE_INPUT,
    OF_THE_OPTIMIZER,
    name_of,
)
from coarsegrad.nn import Conv2d, Linear, binarize_latents_
from coarsegrad.optim import (
    AMSBound,
    BAMSProd,
    Bop,
    ClippedSGD,
    Lookahead,
    Split,
    param_groups,
)
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, Identity, Triangle
from coarsegrad.train import Recipe
from coarsegrad.train.optimizers import build_optimizer
from nets import signs, weights
from subjects import Shortcut, TwoBits, Untraceable, buildable, example

ALL = [
    name_of(rule)
    for rules in (OF_A_LARGE_BATCH, OF_LAYERS, OF_PACKING, OF_THE_BATCH, OF_THE_GRAPH,
                  OF_THE_INPUT, OF_THE_OPTIMIZER)
    for rule in rules
]  # fmt: skip


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


def images(*behind: nn.Module, first: nn.Module | None = None) -> nn.Sequential:
    """A sane network on (1, 8, 8); ``behind`` the first convolution instead of pool and norm."""
    behind = behind or (nn.MaxPool2d(2), nn.BatchNorm2d(4))
    body = nn.Sequential(first or conv(1, 4, input_quantizer=None), *behind, nn.Flatten())
    with torch.no_grad():
        features = body.eval()(torch.zeros(2, 1, 8, 8)).shape[1]
    return nn.Sequential(*body.train(), dense(features, 8), norm(8), dense(8, 4), norm(4))


class Functional(nn.Module):
    def __init__(self, activate: Callable[[torch.Tensor], torch.Tensor], normed: bool) -> None:
        super().__init__()
        self.first = conv(1, 4, input_quantizer=None)
        self.norm = nn.BatchNorm2d(4)
        self.second = dense(36, 4)
        self.last = norm(4)
        self.activate = activate
        self.normed = normed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = self.activate(x) if self.normed else self.activate(self.norm(x))
        x = F.dropout(F.max_pool2d(self.norm(x) if self.normed else x, 2), 0.5, self.training)
        return self.last(self.second(x.view(x.size(0), -1)))


class Stated(nn.Module):
    """A quantizer that says of itself that its numbers depend on the data."""

    levels: tuple[float, ...] = (-1.0, 1.0)
    bits: int = 1
    ste = Identity()
    data_dependent = True

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.where(x < 0, -1.0, 1.0), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.split(x)[0]


class ZeroOne(Stated):
    levels: tuple[float, ...] = (0.0, 1.0)
    data_dependent = False

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.where(x < 0, 0.0, 1.0), None


def shared() -> nn.Sequential:
    one = signs()
    return nn.Sequential(dense(16, 8, input_quantizer=None), norm(8),
                         dense(8, 8, input_quantizer=one), norm(8),
                         dense(8, 4, input_quantizer=one), norm(4))  # fmt: skip


def shifted(by: float) -> nn.Sequential:
    made = net()
    made[1].bias.data.fill_(by)
    return made


def wide(scale: float) -> nn.Sequential:
    """Latents beyond the support of the weights' derivative."""
    made = net(first=dense(16, 32, input_quantizer=None,
                           weight_quantizer=Sign(ste=ClippedIdentity())))  # fmt: skip
    made[0].weight.data.uniform_(-scale, scale)
    return made


X = torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
PIXELS = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

# rule, the layer it names, a net that breaks it, its sane sister, a batch
ROWS = [
    ("relu-before-sign", "2", lambda: net(nn.ReLU()), lambda: net(nn.Identity()), None),
    ("relu-before-sign", "2", lambda: net(nn.ReLU(), nn.Dropout()),
     lambda: net(nn.ReLU(), norm(32)), None),
    ("relu-before-sign", "2",
     lambda: images(nn.BatchNorm2d(4), nn.ReLU6(), nn.AvgPool2d(2), nn.MaxPool2d(2)),
     lambda: images(nn.ReLU6(), nn.AvgPool2d(2), nn.BatchNorm2d(4)), None),
    ("relu-before-sign", "relu", lambda: Functional(F.relu, False),
     lambda: Functional(F.relu, True), None),
    ("relu-before-sign", "relu", lambda: Functional(torch.relu, False),
     lambda: Functional(F.hardtanh, False), None),
    ("relu-before-sign", "relu_", lambda: Functional(lambda x: x.relu_(), False),
     lambda: Functional(lambda x: -x.relu_(), False), None),
    ("relu-before-sign", "2", lambda: net(ZeroOne()), lambda: net(Sign()), None),
    ("missing-batch-norm", "2",
     lambda: nn.Sequential(dense(16, 8, input_quantizer=None), norm(8), dense(8, 8), dense(8, 4),
                           norm(4)), net, None),
    ("missing-batch-norm", "0", lambda: images(nn.MaxPool2d(2), nn.Dropout()),
     lambda: images(nn.MaxPool2d(2), nn.GroupNorm(2, 4)), None),
    ("missing-batch-norm", "0", lambda: images(nn.ReLU(), signs()),
     lambda: images(first=nn.Conv2d(1, 4, 3)), None),
    ("misplaced-batch-norm", "3", lambda: net(signs(), norm(32)), lambda: net(signs()), None),
    ("misplaced-batch-norm", "3",
     lambda: images(nn.BatchNorm2d(4), signs(), nn.BatchNorm2d(4)),
     lambda: images(nn.BatchNorm2d(4), signs(), nn.MaxPool2d(2)), None),
    ("misplaced-batch-norm", "1",
     lambda: images(nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.BatchNorm2d(4)),
     lambda: images(nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), None),
    ("idle-bias", "0", lambda: net(first=dense(16, 32, input_quantizer=None, bias=True)), net,
     None),
    ("idle-bias", "0",
     lambda: images(nn.MaxPool2d(2), nn.Flatten(), norm(36),
                         first=conv(1, 4, input_quantizer=None, bias=True)),
     lambda: images(nn.Hardtanh(), nn.BatchNorm2d(4),
                         first=conv(1, 4, input_quantizer=None, bias=True)), None),
    ("idle-bias", "0", lambda: net(first=Linear(16, 32, weight_quantizer=weights("none"))),
     lambda: net(first=nn.Linear(16, 32)), None),
    ("float-layer", "2",
     lambda: nn.Sequential(nn.Linear(16, 8), norm(8), nn.Linear(8, 8), norm(8), dense(8, 4),
                           norm(4)),
     lambda: nn.Sequential(nn.Linear(16, 8), norm(8), dense(8, 8), norm(8), signs(),
                           nn.Linear(8, 4)), None),
    ("float-layer", "2",
     lambda: nn.Sequential(nn.Linear(16, 8), norm(8), Linear(8, 8), norm(8), dense(8, 4), norm(4)),
     lambda: nn.Sequential(nn.Linear(16, 8), norm(8), signs(), nn.Linear(8, 8), norm(8),
                           dense(8, 4), norm(4)), None),
    ("float-layer", "all layers", lambda: nn.Sequential(nn.Linear(16, 4)), net, None),
    ("unpackable-padding", "0",
     lambda: images(first=conv(1, 4, input_quantizer=None, padding=1,
                                    padding_mode="reflect")),
     lambda: images(first=conv(1, 4, input_quantizer=None, padding=1)), PIXELS),
    ("unpackable-padding", "0",
     lambda: images(first=conv(1, 4, input_quantizer=None, padding=3)),
     lambda: images(first=conv(1, 4, input_quantizer=None, padding=4, dilation=2)), PIXELS),
    ("unpackable-padding", "0",
     lambda: images(first=nn.Conv2d(1, 4, 3, padding="same", padding_mode="circular")),
     lambda: images(first=nn.Conv2d(1, 4, 3, padding="same")), PIXELS),
    ("data-dependent-scale", "2.input_quantizer",
     lambda: net()[:2].append(dense(32, 4, input_quantizer=Sign(scale="tensor"))).append(norm(4)),
     lambda: net(first=dense(16, 32, input_quantizer=None, weight_quantizer=weights("channel"))),
     X),
    ("data-dependent-scale", "2", lambda: net(Sign(scale="tensor")), lambda: net(Sign()), X),
    ("data-dependent-scale", "2", lambda: net(Stated()), lambda: net(TwoBits()), None),
    ("shared-quantizer", "2.input_quantizer", shared, net, X),
    ("frozen-latents", "0", lambda: wide(3), lambda: wide(1.5), X),
    ("binarized-input", "0", lambda: net(first=dense(16, 32)), net, None),
    ("binarized-input", "1", lambda: nn.Sequential(nn.Flatten(), Sign(), net()[0], *net()[1:]),
     lambda: nn.Sequential(norm(16), Sign(), net()[0], *net()[1:]), X),
    ("binarized-output", "6", lambda: net().append(Sign()), lambda: net().append(nn.Softmax(1)),
     X),
    ("unscaled-output", "4", lambda: net()[:-1], net, X),
    ("unscaled-output", "4", lambda: net()[:-1].append(nn.LogSoftmax(1)),
     lambda: net()[:-2].append(dense(32, 4, weight_quantizer=weights("channel"))), None),
    ("dead-inputs", "2", lambda: shifted(20), lambda: shifted(0.3), X),
    ("saturated-inputs", "2", lambda: shifted(20), lambda: shifted(0.3), X),
    ("not-packable", "2", lambda: net(nn.GELU()), net, X),
]  # fmt: skip


def rules(found: Findings) -> list[tuple[str, str]]:
    return [(finding.rule, finding.layer) for finding in found]


@pytest.mark.parametrize(("rule", "layer", "bad", "good", "batch"), ROWS,
                         ids=[f"{i}-{row[0]}" for i, row in enumerate(ROWS)])  # fmt: skip
def test_each_rule_on_a_net_that_breaks_it_and_on_one_that_does_not(
    rule: str, layer: str, bad, good, batch: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    assert (rule, layer) in rules(check(bad(), batch))
    assert rule not in {name for name, _ in rules(check(good(), batch))}


def test_every_rule_has_a_row() -> None:
    of_optimizers = {name_of(rule) for rule in OF_THE_OPTIMIZER}
    assert {row[0] for row in ROWS} | of_optimizers == set(ALL)
    assert len(ALL) == len(set(ALL))


@pytest.mark.parametrize("row", [i for i, row in enumerate(ROWS) if row[4] is not None])
def test_findings_are_complete_sentences(row: int) -> None:
    torch.manual_seed(0)
    for finding in check(ROWS[row][2](), ROWS[row][4]):
        assert finding.rule in ALL
        assert min(map(len, (finding.layer, finding.consequence, finding.cure))) >= 1
        assert "#" in finding.source or "arXiv" in finding.source or "deploy" in finding.source


@pytest.mark.parametrize("name", buildable())
def test_models_have_no_findings_at_initialisation(name: str) -> None:
    torch.manual_seed(0)
    model = getattr(models, name)()
    shape = example(model).shape[1:]
    batch = torch.randint(-128, 128, (32, *shape)) / 128
    found = check(model, batch, BAMSProd(param_groups(model)))
    assert rules(found) == []
    assert found.not_applied == ()
    assert str(found) == "nothing found"
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


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


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
    assert [s.rule for s in found.not_applied if "32 samples" in s.reason] == ["dead-inputs"]
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


def test_text_fits_80_columns_and_joins_what_is_alike() -> None:
    model = net(nn.ReLU(), first=dense(16, 32, bias=True))
    found = check(model, X, adam(model))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{len(found)} findings"
    assert "latents-without-box: 0, 3, 5" in lines
    assert sum(line.startswith("latents-without-box") for line in lines) == 1
    assert sum(line.startswith("  cure: ") for line in lines) == len({f.rule for f in found})
    assert repr(found) == str(found)


def test_findings_as_text_table_and_dict() -> None:
    finding = Finding("a.very.long.path" * 8, "rule", "consequence", "cure", "source")
    found = Findings((finding,), (NotApplied("other", "there was no time"),))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "1 finding"
    assert lines[-3:] == ["  source: source", "",
                          "not applied, since there was no time: other"]  # fmt: skip
    assert list(found) == [finding]
    assert len(found) == 1
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(found.table())
    assert "consequence" in console.export_text().splitlines()[3]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["findings"][0]["cure"] == "cure"
    assert told["not_applied"] == [{"rule": "other", "reason": "there was no time"}]
