from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coarsegrad import deploy, models, packed
from coarsegrad.errors import PackError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import Affine, Conv, Flatten, MaxPool, Sign, Threshold
from coarsegrad.ste import Identity
from nets import randomise_norms, signs, weights

X = torch.zeros(2, 1, 28, 28)
SMALL = torch.zeros(2, 4)


def binary(i: int, o: int, **k) -> Linear:
    return Linear(i, o, input_quantizer=signs(), weight_quantizer=weights("none"), **k)


def conv(i: int, o: int, **k) -> Conv2d:
    return Conv2d(i, o, 3, weight_quantizer=weights("none"), **k)


def kinds(net: nn.Module, x: torch.Tensor, path: Path) -> list[type]:
    return [type(op) for op in deploy.pack(net, x, path).ops]


@pytest.mark.parametrize("negative", [False, True])
def test_small_cnn_is_13_5_kib(negative: bool, tmp_path: Path) -> None:
    net = models.small_cnn()
    if negative:  # every layer stores flips: the largest the file can get
        randomise_norms(net, torch.Generator().manual_seed(0))
    deploy.pack(net, X, tmp_path / "net.cgrad")
    assert (tmp_path / "net.cgrad").stat().st_size <= 13.5 * 1024


def test_small_cnn_graph(tmp_path: Path) -> None:
    ops = deploy.pack(models.small_cnn(), X, tmp_path / "net.cgrad").ops
    assert ops[:4] == (Conv("0", (32, 1, 3, 3)), MaxPool((2, 2)), Threshold("0"),
                       Conv("3", (64, 32, 3, 3)))  # fmt: skip
    assert ops[-1] == Affine("12")


def test_one_bit_weights_are_stored_packed_on_a_float_input(tmp_path: Path) -> None:
    tensors = deploy.pack(models.mlp(), X, tmp_path / "net.cgrad").tensors
    assert tensors["1.weight"].dtype == np.uint8
    assert len(tensors["1.weight"]) == 784 * 256 // 8
    assert tensors["1.threshold"].dtype == np.float32
    assert tensors["3.threshold"].dtype == np.int16


ORDERS = [
    # a sign moves ahead of a pool that no batch norm follows
    (lambda: [conv(1, 3), nn.BatchNorm2d(3), nn.MaxPool2d(2)],
     [Conv, Threshold, MaxPool, Flatten]),
    (lambda: [conv(1, 3), nn.MaxPool2d(2), nn.BatchNorm2d(3)],
     [Conv, MaxPool, Threshold, Flatten]),
    (lambda: [conv(1, 3), nn.BatchNorm2d(3), signs(), nn.MaxPool2d(2), nn.Identity()],
     [Conv, Threshold, MaxPool, Flatten]),
    (lambda: [nn.BatchNorm2d(1), signs(), conv(1, 3), nn.Dropout(0.5)],
     [Threshold, Conv, Threshold, Flatten]),
    (lambda: [signs(), conv(1, 3)], [Sign, Conv, Threshold, Flatten]),
    (lambda: [conv(1, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)],
     [Conv, Threshold, Flatten]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), ORDERS, ids=range(len(ORDERS)))
def test_orders(make, expected: list[type], tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(*make(), nn.Flatten())
    x = torch.randint(-128, 128, (3, 1, 9, 9)) / 128
    net = nn.Sequential(body, binary(body(x).shape[1], 4))
    randomise_norms(net, torch.Generator().manual_seed(3))
    path = tmp_path / "net.cgrad"
    assert kinds(net, x, path)[: len(expected)] == expected
    assert deploy.verify(net, path, x).differing_bits == 0


def test_batch_norm_behind_the_flattening(tmp_path: Path) -> None:
    """One threshold a feature, since neighbours of a channel may have slopes of both signs."""
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 3), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Flatten(),
                        nn.BatchNorm1d(27), binary(27, 2))  # fmt: skip
    randomise_norms(net, torch.Generator().manual_seed(3))
    net[1].weight.data.abs_()
    x = torch.randint(-128, 128, (5, 1, 9, 9)) / 128
    path = tmp_path / "net.cgrad"
    program = deploy.pack(net, x, path)
    assert [type(op) for op in program.ops[:4]] == [Conv, MaxPool, Flatten, Threshold]
    assert program.tensors["0.threshold"].shape == (27,)
    assert deploy.verify(net, path, x).differing_bits == 0


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 3)
        self.second = binary(3 * 13 * 13, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.first(x), 2)
        x = F.dropout(x, training=self.training)
        return self.second(x.view(x.size(0), -1)).reshape(x.shape[0], -1)


def test_functional_pool_and_views(tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    net = Functional()
    assert kinds(net, X, path)[:3] == [Conv, Threshold, MaxPool]
    x = torch.randint(-128, 128, (4, 1, 28, 28)) / 128
    assert deploy.verify(net, path, x).differing_bits == 0


def test_float_first_and_last_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4),
                        conv(4, 4, padding=1, input_quantizer=signs()), nn.BatchNorm2d(4),
                        nn.Flatten(), Linear(4 * 64, 3, input_quantizer=signs()))  # fmt: skip
    x = torch.randn(6, 1, 8, 8)
    path = tmp_path / "net.cgrad"
    tensors = deploy.pack(net, x, path).tensors
    assert tensors["0.weight"].dtype == tensors["5.weight"].dtype == np.float32
    assert tensors["2.weight"].dtype == np.uint8
    assert deploy.verify(net, path, x).argmax_agreement == 6


def test_binary_output_and_plain_sums(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    for net in (
        nn.Sequential(binary(4, 3, bias=False)),
        nn.Sequential(binary(4, 3), nn.BatchNorm1d(3), signs()),
    ):
        deploy.pack(net, x, tmp_path / "net.cgrad")
        report = deploy.verify(net, tmp_path / "net.cgrad", x)
        assert report.differing_bits == 0
        assert report.logits_error <= 1e-6


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = binary(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + x


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Softmax(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.softmax(1)


class AlwaysDropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = binary(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.layer(x), 0.5)


class UpAndDown(nn.Module):
    levels: tuple[float, ...] = (-1.0, 1.0)
    bits: int = 1
    ste = Identity()

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.where((x > 0.5) & (x < 5), 1.0, -1.0), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.split(x)[0]


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = conv(1, 3)
        self.second = binary(3 * 13 * 13, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(input=self.first(x), kernel_size=[2], stride=[])
        return self.second(torch.flatten(input=x, start_dim=1))


def test_keyword_arguments(tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    assert kinds(Keywords(), X, path)[:3] == [Conv, Threshold, MaxPool]


class TwoInputs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def with_nan() -> nn.Module:
    net = nn.Sequential(binary(4, 3), nn.BatchNorm1d(3), binary(3, 2))
    net[1].weight.data[0] = torch.nan
    return net


def between_norms() -> nn.Module:
    net = nn.Sequential(conv(1, 2), nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.BatchNorm2d(2),
                        nn.Flatten(), binary(2 * 169, 2))  # fmt: skip
    net[1].weight.data[0] = -1
    return net


REFUSED = [
    (Shortcut, SMALL, "the output of x goes to 2 places .layer, add.; branches and shortcuts"),
    (Branching, SMALL, r"needs a model that torch.fx can trace, got Branching"),
    (Softmax, SMALL, "softmax calls softmax, which has no packed form"),
    (lambda: nn.Sequential(binary(4, 3), nn.ReLU(), binary(3, 2)), SMALL,
     r"1 \(ReLU\) has no packed form.*remove it"),
    (lambda: nn.Sequential(binary(4, 3), nn.GELU()), SMALL, r"1 \(GELU\) has no packed form"),
    (lambda: nn.Sequential(binary(4, 3), signs(), nn.BatchNorm1d(3)), SMALL,
     "2 is a batch norm behind a quantizer"),
    (lambda: nn.Sequential(binary(4, 3), weights("tensor"), binary(3, 2)), SMALL,
     "1 has a scale that depends on the data"),
    (lambda: nn.Sequential(Linear(4, 3, input_quantizer=weights("tensor"))), SMALL,
     "0.input_quantizer has a scale that depends on the data"),
    (lambda: nn.Sequential(conv(1, 2, padding=1, padding_mode="reflect")), X,
     "0 pads by 'reflect'.*use padding_mode='zeros' and pad_value"),
    (lambda: nn.Sequential(conv(1, 2, padding=5)), X, r"pads by \[5, 5, 5, 5\]; at most"),
    (lambda: nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), X, "0 has ceil_mode"),
    (lambda: nn.Sequential(nn.Flatten(2)), X, "0 flattens other dimensions"),
    (lambda: nn.Sequential(binary(28, 3)), X, "0 is a dense layer on 3-dimensional samples"),
    (lambda: nn.Sequential(binary(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), SMALL,
     "1 keeps no running statistics"),
    (lambda: nn.Sequential(binary(4, 3).bfloat16()), SMALL.bfloat16(), "needs an example batch"),
    (lambda: nn.Sequential(binary(4, 3).double()), SMALL,
     "0.weight is torch.float64; pack needs float32"),
    (with_nan, SMALL, "1.weight holds NaN or infinity"),
    (between_norms, X, "2 pools ahead of what becomes a threshold, and 1 has negative weights"),
    (AlwaysDropping, SMALL, "dropout calls F.dropout with training=True"),
    (lambda: nn.Sequential(binary(4, 3), UpAndDown(), binary(3, 2)), SMALL,
     r"1 \(UpAndDown\) is no rising staircase onto its levels \(-1.0, 1.0\)"),
    (lambda: nn.Sequential(nn.LazyLinear(3)), SMALL, "parameters exist and can be copied"),
    (lambda: nn.Sequential(binary(4, 3)).to("meta"), SMALL, "off the meta device"),
    (TwoInputs, SMALL, r"one input, got \['x', 'y'\]"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "x", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_with_the_layers_name_and_no_file(make, x, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=message):
        deploy.pack(make(), x, tmp_path / "net.cgrad")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_pack_keeps_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "net.cgrad"
    deploy.pack(models.mlp(), X, path)
    before = path.read_bytes()
    with pytest.raises(PackError, match="softmax"):
        deploy.pack(Softmax(), X, path)
    assert path.read_bytes() == before
    assert packed.read(path).ops


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        deploy.pack(models.mlp(), X, tmp_path / "none" / "net.cgrad")
