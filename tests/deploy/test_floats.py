"""ReLU and averages in packed files: what stays float, and what still becomes a threshold."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coarsegrad import deploy, packed, runtime
from coarsegrad.errors import PackError, VerifyError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import Affine, AvgPool, Conv, Flatten, MaxPool, Relu, Sign, Threshold
from coarsegrad.quantizers import Heaviside
from nets import randomise_norms, signs, weights

TARGETS = [target.name for target in runtime.targets() if target.runs]
X = torch.randint(-128, 128, (6, 2, 12, 12), generator=torch.Generator().manual_seed(0)) / 128


def conv(i: int, o: int, **k) -> Conv2d:
    return Conv2d(i, o, 3, weight_quantizer=weights("channel"), **k)


def bits(i: int, o: int) -> Conv2d:
    return conv(i, o, input_quantizer=signs())


def seeded(*layers: nn.Module, positive: bool = False) -> nn.Sequential:
    net = nn.Sequential(*layers)
    randomise_norms(net, torch.Generator().manual_seed(1))
    for layer in net if positive else ():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.abs_()
    return net.eval()


def ops_of(net: nn.Module, path: Path, x: torch.Tensor = X) -> list[type]:
    return [type(op) for op in deploy.pack(net, x, path).ops]


def agrees(net: nn.Module, path: Path, x: torch.Tensor = X) -> None:
    """Every target verifies, and the native ones give numpy's results."""
    with torch.no_grad():
        expected = net(x)
    deploy.pack(net, x, path)
    for target in TARGETS:
        report = deploy.verify(net, path, x, target=target)
        assert report.differing_bits == 0
        got = torch.from_numpy(runtime.load(path, target=target)(x.numpy()))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_converted_network_keeps_its_relu_before_the_float_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = seeded(bits(2, 8), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                 nn.Flatten(), nn.Linear(200, 3))  # fmt: skip
    path = tmp_path / "net.cgrad"
    assert ops_of(net, path) == [Sign, Conv, Affine, Relu, MaxPool, Flatten, packed.Linear, Affine]
    agrees(net, path)


BETWEEN = list(itertools.permutations(["norm", "relu", "max", "average"]))


@pytest.mark.parametrize("order", BETWEEN, ids="-".join)
@pytest.mark.parametrize("last", ["float", "bits"])
def test_every_order_of_norm_relu_and_pools(order: tuple[str, ...], last: str, tmp_path) -> None:
    torch.manual_seed(2)
    made = {"norm": lambda: nn.BatchNorm2d(5), "relu": nn.ReLU, "max": lambda: nn.MaxPool2d(2, 1),
            "average": lambda: nn.AvgPool2d(3, 2, 1)}  # fmt: skip
    body = [bits(2, 5), nn.BatchNorm2d(5), *(made[name]() for name in order), nn.BatchNorm2d(5)]
    head = nn.Linear(125, 3) if last == "float" else Linear(125, 3, input_quantizer=signs())
    # A pool that a batch norm follows needs slopes above 0 in a threshold.
    net = seeded(*body, nn.Flatten(), head, positive=last == "bits")
    head.in_features = net[:-1](X).shape[1]
    head.weight = nn.Parameter(torch.randn(3, head.in_features))
    agrees(net, tmp_path / "net.cgrad")


def test_a_relu_ahead_of_a_batch_norm_folds_into_the_threshold(tmp_path: Path) -> None:
    """Integer sums and float sums; slopes of both signs, and zeros that the ReLU makes."""
    torch.manual_seed(0)
    for first in (bits(2, 9), conv(2, 9)):
        net = seeded(
            first,
            nn.ReLU(),
            nn.BatchNorm2d(9),
            bits(9, 4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(4),
            nn.Flatten(),
            Linear(64, 3, input_quantizer=signs()),
        )
        path = tmp_path / "net.cgrad"
        kinds = ops_of(net, path)
        assert Relu not in kinds
        assert kinds.count(Threshold) == 2
        agrees(net, path)


class Calls(nn.Module):
    """The functions and methods, in place too."""

    def __init__(self, relu) -> None:
        super().__init__()
        self.first, self.norm, self.relu = conv(2, 4), nn.BatchNorm2d(4), relu
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = F.avg_pool2d(x, 2, padding=1)
        x = F.adaptive_avg_pool2d(x, (3, 2))
        return self.last(x.mean((-1, -2)))


RELUS = [F.relu, torch.relu, lambda x: x.relu(), lambda x: x.relu_(), torch.relu_,
         lambda x: F.relu(x, inplace=True), lambda x: F.relu(input=x, inplace=True),
         nn.ReLU(inplace=True)]  # fmt: skip


@pytest.mark.parametrize("relu", RELUS, ids=range(len(RELUS)))
def test_functions_and_methods(relu, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Calls(relu).eval()
    randomise_norms(net, torch.Generator().manual_seed(1))
    path = tmp_path / "net.cgrad"
    assert ops_of(net, path)[:5] == [Conv, Affine, Relu, AvgPool, AvgPool]
    before = X.clone()
    assert deploy.verify(net, path, X).argmax_agreement == len(X)
    assert torch.equal(X, before)


def test_an_in_place_relu_on_the_input_leaves_the_batch_alone(tmp_path: Path) -> None:
    x = torch.randn(3, 4)
    before = x.clone()
    relu = nn.ReLU(inplace=True)
    net = nn.Sequential(relu, nn.Linear(4, 2))
    deploy.pack(net, x, tmp_path / "net.cgrad")
    deploy.verify(net, tmp_path / "net.cgrad", x)
    assert torch.equal(x, before)
    assert net[0] is relu
    assert relu.inplace


GLOBAL = [
    lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    lambda: [nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()],
    lambda: [nn.AvgPool2d(10), nn.Flatten()],
    lambda: [Mean(keepdim=True), nn.Flatten()],
    lambda: [Mean(keepdim=False)],
    lambda: [Mean(keepdim=False, function=True)],
    lambda: [nn.AdaptiveAvgPool2d((None, 1)), nn.AvgPool2d((10, 1)), nn.Flatten()],
]


class Mean(nn.Module):
    def __init__(self, *, keepdim: bool, function: bool = False) -> None:
        super().__init__()
        self.keepdim, self.function = keepdim, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.function:
            return torch.mean(x, dim=[2, 3])
        return x.mean((2, 3), keepdim=self.keepdim)


@pytest.mark.parametrize("make", GLOBAL, ids=range(len(GLOBAL)))
@pytest.mark.parametrize("last", ["float", "bits"])
def test_global_averages(make, last: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = nn.Linear(6, 3) if last == "float" else Linear(6, 3, input_quantizer=signs())
    net = seeded(bits(2, 6), nn.BatchNorm2d(6), *make(), head)
    assert AvgPool in ops_of(net, tmp_path / "net.cgrad")
    agrees(net, tmp_path / "net.cgrad")


@pytest.mark.parametrize("last", ["float", "bits"])
def test_an_average_of_integer_sums_is_exact(last: str, tmp_path: Path) -> None:
    """No scale, no bias: sums and their means round as torch's do, and a mean of 0 is +1."""
    torch.manual_seed(0)
    layer = Conv2d(2, 6, 3, bias=False, input_quantizer=signs(), weight_quantizer=weights("none"))
    head = nn.Linear(6 * 25, 3) if last == "float" else Linear(6 * 25, 3, input_quantizer=signs())
    net = seeded(layer, nn.AvgPool2d(2), nn.Flatten(), head)
    path = tmp_path / "net.cgrad"
    agrees(net, path)
    means = net[:2](X)
    assert (means == 0).any()
    for target in TARGETS:
        got = runtime.load(path, target=target).run(0, 3, X.numpy())
        assert torch.equal(torch.from_numpy(got), means)


def test_bits_are_averaged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for kind, first in ((signs, Sign), (Heaviside, Threshold)):
        net = seeded(
            kind(),
            nn.MaxPool2d(2),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.AvgPool2d(3),
            nn.Flatten(),
            nn.Linear(2, 3),
        )
        path = tmp_path / "net.cgrad"
        kinds = ops_of(net, path)
        assert kinds[:2] == [first, MaxPool]
        assert (kinds[2] is Affine) == (kind is Heaviside)
        agrees(net, path)


def off_by(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every run over more than the first segment start from its floats, a share too small."""
    run = runtime.Model.run

    def disturbed(model: runtime.Model, start: int, stop: int, given: np.ndarray) -> np.ndarray:
        if start or stop <= 3:
            return run(model, start, stop, given)
        return run(model, 3, stop, run(model, 0, 3, given) * np.float32(1 - share))

    monkeypatch.setattr(runtime.Model, "run", disturbed)


def floats_then_bits() -> tuple[nn.Sequential, torch.Tensor]:
    """Floats of a first layer, whose cut in the second is just below one of them."""
    torch.manual_seed(0)
    middle = nn.Linear(8, 8, bias=False)
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), middle, nn.BatchNorm1d(8),
                        Linear(8, 3, input_quantizer=signs())).eval()  # fmt: skip
    x = torch.rand(4, 5)
    with torch.no_grad():
        net[0].bias.fill_(1.0)
        middle.weight.copy_(torch.eye(8))
        net[3].running_mean.copy_(net[1](net[0](x))[2] * (1 - 3e-6))
    return net, x


def test_floats_that_the_file_computes_may_decide_a_bit_and_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = floats_then_bits()
    path = tmp_path / "net.cgrad"
    deploy.pack(net, x, path)
    assert deploy.verify(net, path, x).differing_bits == 0
    off_by(5e-6, monkeypatch)
    report = deploy.verify(net, path, x)
    assert report.layers["2"].differing == 8
    assert report.layers["2"].near_threshold == 0
    off_by(0.5, monkeypatch)
    with pytest.raises(VerifyError, match=r"^2: .* bits differ"):
        deploy.verify(net, path, x)


def test_what_a_layer_may_be_off_by_grows_in_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 1, bias=False)).eval()
    x = torch.rand(4, 5)
    with torch.no_grad():  # two floats near 1, and thirty times their small difference
        net[0].weight.mul_(1e-3)
        net[0].bias.fill_(1.0)
        net[1].weight.copy_(torch.tensor([[30.0, -29.0]]))
    path = tmp_path / "net.cgrad"
    deploy.pack(net, x, path)
    run = runtime.Model.run

    def disturbed(model: runtime.Model, start: int, stop: int, given: np.ndarray) -> np.ndarray:
        if (start, stop) != (0, 3):
            return run(model, start, stop, given)
        middle = run(model, 0, 2, given) + np.array([share, 0], np.float32)
        return run(model, 2, 3, middle)

    monkeypatch.setattr(runtime.Model, "run", disturbed)
    share = 5e-6
    assert 1e-5 < deploy.verify(net, path, x).logits_error < 1e-1
    share = 5e-5
    with pytest.raises(VerifyError, match="though every layer agrees"):
        deploy.verify(net, path, x)


REFUSED = [
    ([nn.Conv2d(2, 3, 3), nn.ReLU(), bits(3, 2)],
     r"1 \(ReLU\) has no packed form here: a ReLU before a sign leaves only \+1: remove it"),
    ([nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2, 1),
      bits(3, 2)], r"2 \(ReLU\) has no packed form here"),
    ([bits(2, 3), signs(), nn.ReLU()], r"2 \(ReLU\) stands behind a sign"),
    ([nn.AvgPool2d(2, ceil_mode=True)], "0 has ceil_mode or divisor_override"),
    ([nn.AvgPool2d(2, divisor_override=3)], "0 has ceil_mode or divisor_override"),
    ([nn.AvgPool2d(2, padding=1, count_include_pad=False)], "0 has count_include_pad=False"),
    ([nn.AdaptiveAvgPool2d(5)],
     r"0 averages \[12, 12\] cells to \[5, 5\]; packed windows are all of one size"),
    ([nn.BatchNorm2d(2), nn.ReLU6()], r"1 \(ReLU6\) has no packed form; known: .*ReLU, MaxPool2d"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_by_name(layers: list[nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=message):
        deploy.pack(nn.Sequential(*layers), X, tmp_path / "net.cgrad")
    assert list(tmp_path.iterdir()) == []


class MeanOfChannels(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class MeanOfAll(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mean(x)


@pytest.mark.parametrize(("net", "dim"), [(MeanOfChannels(), "dim=1"), (MeanOfAll(), "dim=None")])
def test_other_means_are_refused(net: nn.Module, dim: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=rf"mean takes the mean of .* over {dim}; only the mean"):
        deploy.pack(net, X, tmp_path / "net.cgrad")
