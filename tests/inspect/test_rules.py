from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coarsegrad.inspect import check
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
from coarsegrad.nn import Linear
from coarsegrad.quantizers import (
    CoarseGradientWarning,
    Heaviside,
    QuantReLU,
    QuantWeight,
    Sign,
)
from coarsegrad.ste import ClippedIdentity, ClippedReLU, Identity, ReLU, ReverseExp, Sigmoid
from nets import signs, weights
from subjects import (
    PIXELS,
    TwoBits,
    X,
    conv,
    dense,
    net,
    norm,
    rules,
    shifted,
)  # fmt: skip

ALL = [
    name_of(rule)
    for rules in (OF_A_LARGE_BATCH, OF_LAYERS, OF_PACKING, OF_THE_BATCH, OF_THE_GRAPH,
                  OF_THE_INPUT, OF_THE_OPTIMIZER)
    for rule in rules
]  # fmt: skip


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


class Viewed(nn.Module):
    """Reads the size of a layer's result, which is no use of its values."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = conv(1, 4, input_quantizer=None, bias=bias)
        self.norm = norm(4 * 36)
        self.last = nn.Linear(4 * 36, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(self.norm(x.view(x.size(0), -1)))


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


def wide(scale: float) -> nn.Sequential:
    """Latents beyond the support of the weights' derivative."""
    made = net(first=dense(16, 32, input_quantizer=None,
                           weight_quantizer=Sign(ste=ClippedIdentity())))  # fmt: skip
    made[0].weight.data.uniform_(-scale, scale)
    return made


def relu(quantizer) -> nn.Sequential:
    """A sane network with a quantized ReLU as one layer's input quantizer."""
    return nn.Sequential(dense(16, 32, input_quantizer=None), norm(32),
                         dense(32, 32, input_quantizer=quantizer), norm(32),
                         dense(32, 4), norm(4))  # fmt: skip


def lsq(step: float) -> nn.Sequential:
    """Weights on learned steps, most of them beyond the outer level where the step is small."""
    made = net(first=dense(16, 32, input_quantizer=None,
                           weight_quantizer=QuantWeight(2, "learned", step=step)))  # fmt: skip
    made[0].weight.data.uniform_(-0.25, 0.25)
    return made


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
    ("idle-bias", "first", lambda: Viewed(True), lambda: Viewed(False), None),
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
    ("activation-apart", "3",
     lambda: nn.Sequential(dense(16, 8, input_quantizer=None), norm(8), QuantReLU(2),
                           dense(8, 4, input_quantizer=None), norm(4)),
     lambda: nn.Sequential(dense(16, 8, input_quantizer=None), norm(8), Heaviside(ste=ReLU()),
                           dense(8, 4, input_quantizer=None), norm(4)), X),
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
    ("assumption2", "2", lambda: relu(Heaviside(ste=Sigmoid())), lambda: relu(Heaviside()), X),
    ("assumption2", "2", lambda: relu(QuantReLU(2, ste=Identity())),
     lambda: relu(QuantReLU(2, ste=ClippedReLU())), X),
    ("one-bit-relu", "2", lambda: relu(Heaviside()), lambda: relu(QuantReLU(2)), X),
    ("one-bit-relu", "2", lambda: relu(QuantReLU(1)), lambda: relu(signs()), X),
    ("saturated-inputs", "2", lambda: relu(QuantReLU(2, step=1e-3, ste=ClippedReLU())),
     lambda: relu(QuantReLU(2, ste=ClippedReLU())), X),
    ("frozen-latents", "0", lambda: lsq(0.01), lambda: lsq(0.2), X),
    ("not-packable", "2", lambda: net(nn.GELU()), net, X),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "layer", "bad", "good", "batch"), ROWS,
                         ids=[f"{i}-{row[0]}" for i, row in enumerate(ROWS)])  # fmt: skip
@pytest.mark.filterwarnings(f"ignore::{CoarseGradientWarning.__module__}.CoarseGradientWarning")
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


@pytest.mark.filterwarnings(f"ignore::{CoarseGradientWarning.__module__}.CoarseGradientWarning")
@pytest.mark.parametrize("row", [i for i, row in enumerate(ROWS) if row[4] is not None])
def test_findings_are_complete_sentences(row: int) -> None:
    torch.manual_seed(0)
    for finding in check(ROWS[row][2](), ROWS[row][4]):
        assert finding.rule in ALL
        assert min(map(len, (finding.layer, finding.consequence, finding.cure))) >= 1
        assert "#" in finding.source or "arXiv" in finding.source or "deploy" in finding.source


def test_measured_constants_are_those_of_the_batch() -> None:
    torch.manual_seed(0)
    made = relu(QuantReLU(2, step=0.5, ste=ReverseExp()))
    made[4].input_quantizer = QuantReLU(4, ste=ClippedReLU())
    found = check(made, X)
    first, second = found.measured
    made.train()
    bound = made[:2](X).abs().max().item() / 0.5
    assert (first.layer, second.layer) == ("2", "4")
    assert first.bound == pytest.approx(bound, rel=1e-5)
    assert first.delta == pytest.approx(math.exp(-bound / 3), rel=1e-4)
    assert (first.delta_tilde, first.holds) == (1.0, True)
    assert (second.ste, second.holds) == ("ClippedReLU(ceiling=15.0)", second.bound <= 15)
    text = str(found).splitlines()
    assert max(map(len, text)) <= 80
    assert any("ReverseExp(q=3)" in line and line.endswith("yes") for line in text)
    assert found.to_dict()["measured"][0]["delta"] == first.delta
    assert check(made).measured == ()
