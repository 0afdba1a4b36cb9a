from __future__ import annotations

import copy
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from coarsegrad import deploy, models
from coarsegrad.errors import InputError, PackError
from coarsegrad.inspect import Counts, Summary, summary
from coarsegrad.nn import Conv2d, Linear, NormalizedBatchNorm
from coarsegrad.packed import Conv, runs_on_bits
from coarsegrad.packed import Linear as PackedLinear
from coarsegrad.quantizers import QuantReLU, precision
from coarsegrad.runtime.native import build
from coarsegrad.runtime.targets import native_module
from nets import networks, randomise_norms, signs, weights
from subjects import NOT_CHAINS, Shortcut, TwoBits, Untraceable, buildable, example


def check_sum(found: Summary, size: int) -> None:
    assert found.total_bytes == size
    assert sum(row.bytes for row in found.rows if row.bytes is not None) == size
    assert found.not_packable is None
    assert found.rows[-1].name == "(header)"


@pytest.mark.parametrize("name", [name for name in buildable() if name not in NOT_CHAINS])
@pytest.mark.parametrize("flipped", [False, True])
def test_models_have_the_files_size_to_the_byte(name: str, flipped: bool, tmp_path: Path) -> None:
    net = getattr(models, name)()
    if flipped:
        randomise_norms(net, torch.Generator().manual_seed(0))
    x = example(net)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    found = summary(net, x)
    check_sum(found, (tmp_path / "net.cgrad").stat().st_size)
    assert found.parameters.total == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", NOT_CHAINS)
def test_models_that_do_not_pack_have_a_summary_that_says_why(name: str, tmp_path: Path) -> None:
    net = getattr(models, name)()
    x = example(net)
    with pytest.raises(PackError, match=NOT_CHAINS[name]):
        deploy.pack(net, x, tmp_path / "net.cgrad")
    found = summary(net, x)
    assert NOT_CHAINS[name] in (found.not_packable or "")
    assert found.parameters.total == sum(p.numel() for p in net.parameters())


def test_the_models_are_found() -> None:
    assert {"small_cnn", "mlp"} <= set(buildable())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(low_bits=True))
def test_random_networks_have_the_files_size_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, network: tuple[nn.Sequential, torch.Tensor]
) -> None:
    net, x = network
    path = tmp_path_factory.mktemp("net") / "net.cgrad"
    program = deploy.pack(net, x, path)
    found = summary(net, x)
    check_sum(found, path.stat().st_size)
    assert found.parameters.total == sum(p.numel() for p in net.parameters())
    kernels = {row.name: row.kernel for row in found.rows if row.kernel is not None}
    assert list(kernels) == [op.name for op in program.ops if isinstance(op, (Conv, PackedLinear))]
    assert all(len(line) <= 80 for line in str(found).splitlines())


@pytest.mark.skipif(native_module() is None, reason="the native module is not built")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_the_kernel_is_the_native_engines(network: tuple[nn.Sequential, torch.Tensor]) -> None:
    program = deploy.to_program(*network).program
    for index, op in enumerate(program.ops):
        if isinstance(op, (Conv, PackedLinear)):
            stages = build(program.part(index, index + 1), "generic", 1).stage_names
            runs = {stage.split(" ->")[0] for stage in stages} & {"bit layer", "float layer"}
            assert runs == {"bit layer" if runs_on_bits(program, index) else "float layer"}


def test_small_cnn_row_by_row() -> None:
    found = summary(models.small_cnn(), torch.zeros(1, 1, 28, 28))
    rows = {row.name: row for row in found.rows}
    assert (rows["0"].input_bits, rows["0"].weight_bits, rows["0"].kernel) == (None, 1, "float")
    assert (rows["3"].input_bits, rows["3"].weight_bits, rows["3"].kernel) == (1, 1, "bits")
    assert rows["3"].shape == (64, 11, 11)
    assert rows["3"].macs == Counts(one_bit=64 * 11 * 11 * 32 * 9)
    assert rows["3"].bytes == 64 * 32 * 9 // 8 + 64 * 2
    assert rows["2"].parameters == Counts(floats=64)
    assert rows["2"].bytes == 0  # it is part of layer 0's thresholds
    assert rows["12"].bytes == 2 * 10 * 4
    assert found.parameters == Counts(93_088, 0, 468)
    assert found.float32_bytes == 4 * 93_556
    assert found.macs.floats == 32 * 26 * 26 * 9
    assert found.binary_share == found.macs.one_bit / found.macs.total > 0.9
    assert found.total_bytes is not None
    assert found.ratio == found.float32_bytes / found.total_bytes


def two_bit(i: int, o: int) -> Linear:
    return Linear(i, o, input_quantizer=signs(), weight_quantizer=TwoBits())


W = {"weight_quantizer": weights("none")}
X4 = (4,)
# net, shape of a sample, parameters, MACs of the whole
COUNTED = [
    (lambda: nn.Linear(4, 3), X4, Counts(floats=15), Counts(floats=12)),
    (lambda: Linear(4, 3, **W), X4, Counts(12, 0, 3), Counts(floats=12)),
    (lambda: Linear(4, 3, input_quantizer=signs()), X4, Counts(floats=15), Counts(floats=12)),
    (lambda: Linear(4, 3, bias=False, input_quantizer=signs(), **W), X4, Counts(12), Counts(12)),
    (lambda: two_bit(4, 3), X4, Counts(0, 12, 4), Counts(k_bit=12)),
    (lambda: Linear(4, 3, input_quantizer=TwoBits(), **W), X4, Counts(12, 0, 4), Counts(k_bit=12)),
    # a sign in front, through a dropout
    (lambda: nn.Sequential(signs(), nn.Dropout(), Linear(4, 3, **W)), X4,
     Counts(12, 0, 3), Counts(12)),
    (lambda: Linear(4, 3, bias=False, **W), (5, 4), Counts(12), Counts(floats=60)),
    (lambda: Conv2d(4, 6, 3, groups=2, dilation=2, padding=2, bias=False, **W), (4, 7, 7),
     Counts(6 * 2 * 9), Counts(floats=6 * 49 * 2 * 9)),
    (lambda: nn.Conv1d(2, 3, 3, bias=False), (2, 9), Counts(floats=18), Counts(floats=3 * 7 * 6)),
    (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False), (2, 5, 5),
     Counts(floats=24), Counts(floats=2 * 25 * 3 * 4)),
    (lambda: nn.LayerNorm(4), X4, Counts(floats=8), Counts()),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "parameters", "macs"), COUNTED, ids=range(len(COUNTED)))
@pytest.mark.parametrize("samples", [1, 3])
def test_counts(make, shape: tuple[int, ...], parameters, macs, samples: int) -> None:
    net = make()
    net = net if isinstance(net, nn.Sequential) else nn.Sequential(net)
    found = summary(net, torch.zeros(samples, *shape))
    assert found.parameters == parameters
    assert found.macs == macs


def several_bits(inputs: QuantReLU, name: str) -> nn.Sequential:
    kinds = precision(name)
    return nn.Sequential(
        Conv2d(1, 16, 3, bias=False),
        NormalizedBatchNorm(16),
        Conv2d(16, 8, 3, bias=False, input_quantizer=inputs, weight_quantizer=kinds.weights),
        nn.Flatten(),
        Linear(8 * 16, 4, input_quantizer=inputs, weight_quantizer=kinds.weights),
    )


BY_PRECISION = [
    ("W1A2", "bits", Counts(9 * 128 + 512, 0, 144 + 4)),
    ("W2A4", "bits", Counts(0, 9 * 128 + 512, 144 + 4)),
    ("W4A4", "float", Counts(0, 9 * 128 + 512, 144 + 4)),
    ("W32A2", "float", Counts(0, 0, 144 + 9 * 128 + 512 + 4)),
]


@pytest.mark.parametrize(("name", "kernel", "parameters"), BY_PRECISION)
def test_several_bits(name: str, kernel: str, parameters: Counts, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = several_bits(precision(name).inputs, name), torch.rand(3, 1, 8, 8)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    found = summary(net, x)
    check_sum(found, (tmp_path / "net.cgrad").stat().st_size)
    assert found.parameters == parameters
    assert [row.kernel for row in found.rows if row.kernel] == ["float", kernel, kernel]
    inner, outer = 8 * 16 * 9 * 16 + 512, 16 * 36 * 9
    assert found.macs_by_precision == {name: inner, "W32A32": outer}
    assert [row.precision for row in found.rows if row.precision] == ["W32A32", name, name]
    shares = f"{name} {inner:,} ({inner / (inner + outer):.1%}), W32A32 {outer:,}"
    assert f"MACs of a sample: {shares}" in str(found)
    assert max(map(len, str(found).splitlines())) <= 80
    told = json.loads(json.dumps(found.to_dict()))
    assert told["macs_by_precision"] == {name: inner, "W32A32": outer}
    assert told["rows"][2]["precision"] == name


def test_what_a_layers_own_quantizer_needs_stands_in_the_layers_row(tmp_path: Path) -> None:
    """Thresholds of the input image, and tables of levels that are no integers."""
    torch.manual_seed(0)
    first = Conv2d(1, 16, 3, bias=False, input_quantizer=QuantReLU(3), weight_quantizer=weights(
        "none"))  # fmt: skip
    net = several_bits(QuantReLU(2).calibrate(torch.randn(500), "lloyd-max"), "W1A2")
    net[0], x = first, torch.rand(3, 1, 8, 8)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    found = summary(net, x)
    check_sum(found, (tmp_path / "net.cgrad").stat().st_size)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["0", "1", "2", "3", "4", "(header)"]
    assert rows["0"].bytes == 144 // 8 + 7 * 4 + 3 * 16 * 2
    assert rows["2"].bytes == 9 * 128 // 8 + 3 * 8 * 4 + 4 * 4
    assert rows["4"].bytes == 512 // 8 + 4 * 4 + 2 * 4 * 4
    assert [rows[name].kernel for name in "024"] == ["bits", "float", "float"]


class Twice(nn.Module):
    """One layer called twice, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Linear(8, 8, bias=False, input_quantizer=signs(), **W)
        self.norm = nn.BatchNorm1d(8)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(self.norm(self.layer(x))))


def test_a_module_used_twice_has_its_parameters_counted_once(tmp_path: Path) -> None:
    net, x = Twice(), torch.zeros(2, 8)
    found = summary(net, x)
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["layer", "norm", "layer@2", "norm@2", "spare", "(header)"]
    assert rows["layer"].parameters == Counts(64)
    assert rows["layer@2"].parameters == Counts()
    assert found.macs == Counts(128)
    assert rows["layer@2"].bytes == 8
    assert rows["spare"].kind == "Linear, unused"
    assert found.parameters == Counts(64, 0, 16 + 6)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    check_sum(found, (tmp_path / "net.cgrad").stat().st_size)


class PoolFirst(nn.Module):
    """The threshold of the input belongs to a function, which is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.layer = Conv2d(1, 2, 3, bias=False, input_quantizer=signs(), **W)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.norm(F.max_pool2d(x, 2)))


def test_tensors_of_functions_have_a_row(tmp_path: Path) -> None:
    net, x = PoolFirst(), torch.zeros(1, 1, 8, 8)
    found = summary(net, x)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    check_sum(found, (tmp_path / "net.cgrad").stat().st_size)
    (row,) = [row for row in found.rows if row.kind == "function"]
    assert (row.name, row.bytes) == ("max_pool2d", 4)


class Attention(nn.Module):
    """A module with children that owns parameters and calls no child."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.attention(x, x, x)[0]
        return result


# net, shape, reason, known bytes by row
UNPACKABLE = [
    (Shortcut, (16,), "branches and shortcuts have no packed form",
     {"first": 16 * 16 // 8, "norm": None, "last": 16 * 3 * 4}),
    (Untraceable, (16,), "torch.fx can trace", {"layer": 16 * 4 // 8}),
    (Attention, (5, 4), "has no packed form", {"attention": None}),
    (lambda: nn.Sequential(two_bit(4, 3)), X4, "packed weights need", {"0": None}),
    (lambda: nn.Sequential(Linear(4, 3, **W), nn.GELU()), X4, "GELU.* has no packed form",
     {"0": 2, "1": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "shape", "reason", "known"), UNPACKABLE, ids=range(5))
def test_without_packed_form(make, shape: tuple[int, ...], reason: str, known: dict) -> None:
    net = make()
    found = summary(net, torch.ones(2, *shape))
    assert found.total_bytes is None
    assert found.ratio is None
    assert found.not_packable is not None
    assert re.search(reason, found.not_packable)
    assert {row.name: row.bytes for row in found.rows if row.name in known} == known
    assert found.parameters.total == sum(p.numel() for p in net.parameters())
    text = " ".join(str(found).split())
    assert f"not packable: {' '.join(found.not_packable.split())}" in text
    assert json.loads(json.dumps(found.to_dict()))["total_bytes"] is None


def test_bits_that_reach_a_layer_of_a_branching_model() -> None:
    rows = {row.name: row for row in summary(Shortcut(), torch.ones(2, 16)).rows}
    assert rows["first"].macs == Counts(256)
    assert rows["last"].macs == Counts(floats=48)
    assert rows["first"].kernel is None


def test_a_module_that_owns_parameters_and_children_has_one_row_for_its_call() -> None:
    rows = summary(Attention(), torch.ones(2, 5, 4)).rows
    assert [(row.name, row.shape) for row in rows] == [
        ("attention", (5, 4)),
        ("attention.out_proj", None),
    ]


class Plain(nn.Module):
    """A residual network in torch's own modules, with long names."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor_of_the_network = nn.Sequential(
            nn.Conv2d(3, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.classifier_that_follows_it = two_bit(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier_that_follows_it(self.feature_extractor_of_the_network(x))


def test_text_fits_80_columns_and_tells_layers_apart() -> None:
    found = summary(Plain(), torch.zeros(1, 3, 32, 32))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert "k-bit" in lines[0]
    names = [line.split()[0] for line in lines[2:8]]
    assert len(set(names)) == 6
    assert names[0].startswith("…")
    assert repr(found) == str(found)


def test_text_of_small_cnn() -> None:
    lines = str(summary(models.small_cnn(), torch.zeros(1, 1, 28, 28))).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "in/w", "1-bit", "32-bit", "MACs",
                                "kernel", "bytes"]  # fmt: skip
    assert lines[2].split() == ["0", "Conv2d", "32x26x26", "32/1", "288", "194,688", "float",
                                "164"]  # fmt: skip
    assert "(93.0%)" in lines[-2]
    assert "374,224 bytes; packed file: 13,396 bytes, 27.9x smaller" in lines[-1]


def test_rich_table_and_dict_hold_the_same() -> None:
    found = summary(models.small_cnn(), torch.zeros(1, 1, 28, 28))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(found.table())
    text = console.export_text()
    assert "2,230,272" in text
    assert "13,396" in text
    assert "27.9x smaller" in text
    told = json.loads(json.dumps(found.to_dict()))
    assert told["total_bytes"] == 13_396 == sum(row["bytes"] for row in told["rows"])
    assert told["rows"][3]["macs"] == {"one_bit": 2_230_272, "k_bit": 0, "floats": 0}
    assert told["rows"][3]["shape"] == [64, 11, 11]
    assert math.isclose(told["ratio"], 374_224 / 13_396)


def test_the_model_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(models.small_cnn(), nn.Dropout(0.5))
    net[0][2].eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    x = torch.rand(4, 1, 28, 28)
    rng = torch.get_rng_state()
    summary(net, x)
    assert torch.equal(rng, torch.get_rng_state())
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 28, 28), r" that Sequential accepts, got torch.float32 \[1, 3"),
        (torch.zeros(0, 1, 28, 28), r"of shape \(N, ...\) with N >= 1, got \[0, 1, 28, 28\]"),
        (np.zeros((1, 1, 28, 28), np.float32), "a tensor of shape .* got ndarray"),
        (torch.tensor(1.0), r"got \[\]"),
    ],
)
def test_a_batch_that_does_not_fit(x, message: str) -> None:
    with pytest.raises(InputError, match=f"^summary needs an example batch.*?{message}"):
        summary(models.small_cnn(), x)


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.result = torch.ones(1, requires_grad=True) * 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.result


def test_a_model_that_cannot_be_copied() -> None:
    with pytest.raises(InputError, match=r"summary needs a model that can be copied, got Uncop"):
        summary(Uncopyable(), torch.zeros(1, 4))


def test_a_lazy_model_stays_lazy() -> None:
    net = nn.Sequential(nn.LazyLinear(3))
    assert summary(net, torch.zeros(1, 4)).parameters == Counts(floats=15)
    assert isinstance(net[0].weight, nn.UninitializedParameter)
