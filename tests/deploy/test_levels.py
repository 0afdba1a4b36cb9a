"""Bits of 0 and 1, constant scales of inputs, and ternary weights, from torch to every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coarsegrad import deploy, packed, runtime
from coarsegrad.errors import PackError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import Affine, Conv, MaxPool, Sign, Threshold, runs_on_bits, unpack_weights
from coarsegrad.quantizers import Heaviside, Quantizer, Ternary
from coarsegrad.quantizers import Sign as SignQuantizer
from coarsegrad.ste import Identity
from nets import randomise_norms, signs, weights

TARGETS = [target.name for target in runtime.targets() if target.runs]
X = torch.randint(-4, 5, (9, 3, 9, 8), generator=torch.Generator().manual_seed(0)) / 4


def conv(inputs: Quantizer | None, **k) -> Conv2d:
    k = {"bias": False, "weight_quantizer": weights("none")} | k
    return Conv2d(3, 8, 3, input_quantizer=inputs, **k)


def dense(features: int, inputs: Quantizer | None, **k) -> Linear:
    k = {"weight_quantizer": weights("none")} | k
    return Linear(features, 4, input_quantizer=inputs, **k)


def check(net: nn.Module, path: Path, x: torch.Tensor = X) -> packed.Program:
    """No bit differs on any target, and native results are numpy's to the bit."""
    net.eval()
    with torch.no_grad():
        expected = net(x).numpy()
    program = deploy.pack(net, x, path)
    of_numpy = runtime.load(path, target="numpy")(x.numpy())
    np.testing.assert_allclose(of_numpy, expected, rtol=1e-5, atol=1e-5)
    for target in TARGETS:
        assert deploy.verify(net, path, x, target=target).differing_bits == 0
        assert np.array_equal(runtime.load(path, target=target)(x.numpy()), of_numpy), target
    return program


def learned(kind: type, alpha: float, **k):
    quantizer = kind(scale="learned", **k)
    quantizer.alpha.data.fill_(alpha)
    return quantizer


@pytest.mark.parametrize("quantizer", [signs, Heaviside, lambda: learned(Heaviside, -0.7),
                                       lambda: learned(SignQuantizer, 2.5)])  # fmt: skip
@pytest.mark.parametrize("padding", [0, 1])
def test_exact_zeros_fall_as_the_quantizer_has_them(quantizer, padding: int, tmp_path) -> None:
    """Integer sums without a scale or bias hit 0 often, as do these inputs."""
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(quantizer(), padding=padding),
        nn.MaxPool2d(2),
        Conv2d(8, 5, 2, bias=False, input_quantizer=quantizer(), weight_quantizer=weights("none")),
        nn.Flatten(),
        dense(5 * (9 if padding else 4), quantizer()),
    )
    with torch.no_grad():
        assert (net[:3](X) == 0).any()
    program = check(net, tmp_path / "net.cgrad")
    layers = [op for op in program.ops if isinstance(op, (Conv, packed.Linear))]
    low = int(quantizer().levels[0])
    assert [op.low for op in layers] == [low] * 3
    assert all(runs_on_bits(program, program.ops.index(op)) for op in layers)
    assert isinstance(program.ops[0], Sign if low else Threshold)


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("groups", [1, 3])
def test_padding_beside_zeros_and_ones(pad_value: int, groups: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 9, 3, padding=(2, 1), groups=groups, pad_value=pad_value,
                   input_quantizer=Heaviside(), weight_quantizer=Ternary())  # fmt: skip
    net = nn.Sequential(layer, nn.BatchNorm2d(9), Heaviside(), nn.MaxPool2d(3, 2, 1), nn.Flatten(),
                        dense(9 * 6 * 4, None))  # fmt: skip
    randomise_norms(net, torch.Generator().manual_seed(0))
    program = check(net, tmp_path / "net.cgrad")
    assert program.ops[1].pad == pad_value
    assert runs_on_bits(program, 1) is (groups == 1)


def test_a_network_that_ends_on_zeros_and_ones(tmp_path: Path) -> None:
    for end, ops in (([Heaviside()], [Threshold, Affine]), ([signs()], [Threshold]),
                     ([learned(SignQuantizer, 0.25)], [Threshold, Affine]),
                     ([Heaviside(), nn.MaxPool2d(2), nn.Flatten()],
                      [Threshold, MaxPool, packed.Flatten, Affine])):  # fmt: skip
        program = check(nn.Sequential(conv(signs()), *end), tmp_path / "net.cgrad")
        assert [type(op) for op in program.ops[2:]] == ops


def test_two_quantizers_in_a_row(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        signs(),
        conv(Heaviside()),
        learned(SignQuantizer, 0.5),
        nn.Flatten(),
        Heaviside(),
        dense(8 * 42, Heaviside()),
    )
    program = check(net, tmp_path / "net.cgrad")
    assert [op.low for op in program.ops if hasattr(op, "low")] == [0, 0]


def test_float_weights_read_zeros_and_ones(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(conv(signs()), Heaviside(), nn.Flatten(), nn.Linear(8 * 42, 4))
    path = tmp_path / "net.cgrad"
    program = deploy.pack(net, X, path)
    assert program.ops[-2].low == 0
    for target in TARGETS:
        assert deploy.verify(net, path, X, target=target).differing_bits == 0


@pytest.mark.parametrize("weight", [
    lambda: Ternary(), lambda: Ternary(scale="channel"), lambda: Ternary(threshold=0.05),
    lambda: learned(Ternary, -1.5), lambda: learned(Ternary, 0.75, channels=8),
    lambda: Heaviside(), lambda: Heaviside(scale="tensor"),
])  # fmt: skip
@pytest.mark.parametrize("inputs", [None, signs, Heaviside])
def test_ternary_weights(weight, inputs, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = conv(inputs() if inputs else None, weight_quantizer=weight(), bias=True)
    net = nn.Sequential(
        first,
        nn.BatchNorm2d(8),
        nn.Flatten(),
        dense(8 * 42, signs(), weight_quantizer=Ternary(scale="tensor")),
    )
    randomise_norms(net, torch.Generator().manual_seed(3))
    program = check(net, tmp_path / "net.cgrad")
    stored = program.tensors["0.weight"]
    assert (stored.dtype, stored.shape) == (np.uint8, (2, 27))
    layer = next(op for op in program.ops if isinstance(op, Conv))
    assert np.array_equal(unpack_weights(layer, program.tensors), first.weight_levels.numpy())
    assert runs_on_bits(program, program.ops.index(layer)) is (inputs is not None)


def test_every_weight_zero(tmp_path: Path) -> None:
    layer = conv(signs(), weight_quantizer=Ternary(threshold=1e6))
    net = nn.Sequential(layer, nn.Flatten(), dense(8 * 42, Heaviside()))
    check(net, tmp_path / "net.cgrad")


class Levels(nn.Module):
    """A quantizer of any facts, to be refused."""

    bits = 1
    ste = Identity()

    def __init__(self, levels=(-1.0, 1.0), cut=0.0, scale=lambda x: None) -> None:
        super().__init__()
        self.levels, self.cut, self.scale = levels, cut, scale

    def split(self, x: torch.Tensor):
        return torch.where(x > self.cut, self.levels[-1], self.levels[0]), self.scale(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.split(x)[0]


class Falling(Levels):
    def split(self, x: torch.Tensor):
        return super().split(-x)


def test_a_cut_elsewhere_than_at_0(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for at in (0.5, -1.25):
        cut = Levels(cut=at)
        net = nn.Sequential(conv(cut), nn.Flatten(), dense(8 * 42, cut))
        program = check(net, tmp_path / "net.cgrad")
        assert isinstance(program.ops[0], Threshold)


def test_two_levels_that_no_layer_reads_as_bits(tmp_path: Path) -> None:
    """They become floats through a table, behind the pool that still works on bits."""
    torch.manual_seed(0)
    pair = Levels(levels=(-0.25, 1.5), scale=lambda x: torch.tensor(0.7))
    net = nn.Sequential(conv(signs()), nn.MaxPool2d(2), nn.Flatten(), dense(8 * 9, pair))
    x, path = X, tmp_path / "net.cgrad"
    program = deploy.pack(net, x, path)
    assert [op.op for op in program.ops[2:]] == ["threshold", "maxpool", "flatten", "levels",
                                                 "linear", "affine"]  # fmt: skip
    assert deploy.verify(net, path, x, target="numpy").differing_bits == 0


def test_facts_are_enough(tmp_path: Path) -> None:
    """A sign with q(0) = -1 and a constant scale, of a class that the package does not know."""
    torch.manual_seed(0)
    odd = Levels(scale=lambda x: torch.tensor(0.5))
    assert odd.split(torch.zeros(1))[0].item() == -1
    net = nn.Sequential(conv(odd), nn.Flatten(), dense(8 * 42, odd))
    check(net, tmp_path / "net.cgrad")


REFUSED = [
    (
        Levels(levels=(-1.0, 0.0, 1.0)),
        r"0.input_quantizer has the levels \(-1.0, 0.0, 1.0\); "
        r"packed activations need 2, 4, 8, .. or 256 rising levels: use Sign, Heaviside or",
    ),
    (Levels(levels=(1.0, -1.0)), r"0.input_quantizer has the levels \(1.0, -1.0\)"),
    (Levels(levels=tuple(map(float, range(512)))), r"has the levels \(0, 1, .., 511\); packed"),
    (Levels(levels=(0.0, 1.0, 2.0, 3.0), cut=-1.0, scale=lambda x: x.mean()), "depends on the"),
    (Falling(), r"0.input_quantizer \(Falling\) is no rising staircase onto its levels"),
    (Levels(scale=lambda x: x.abs().mean()), "0.input_quantizer has a scale that depends on the"),
    (Levels(scale=lambda x: torch.ones(8)), "0.input_quantizer has a scale that depends on the"),
    (Ternary(threshold=0.3), "0.input_quantizer has the levels"),
    (SignQuantizer(scale="tensor"), "scale='none', the batch norm that follows absorbs it, or"),
]


@pytest.mark.parametrize(("quantizer", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_activations(quantizer: Quantizer, message: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=message):
        deploy.pack(nn.Sequential(conv(quantizer)), X, tmp_path / "net.cgrad")


CHAINS = [
    ([Heaviside(), conv(signs())], "1.input_quantizer makes one level of the two levels 0 and 1 "
     "of 0; remove one of the two"),
    ([Heaviside(), signs(), conv(None)], "1 makes one level of the two levels 0 and 1 of 0"),
    ([learned(SignQuantizer, -0.5), signs()], "1 makes the reverse of the two levels 0.5 and -0.5"),
    ([learned(SignQuantizer, -0.5)], "0 has the scale -0.5, which does not keep its levels"),
    ([conv(None, weight_quantizer=Levels(levels=(-0.5, 0.5)))],
     r"0 has weights of the levels \(-0.5, 0.5\); packed weights need \(-1, 1\), \(-1, 0, 1\)"),
    ([conv(None, weight_quantizer=Levels(levels=(-128.0, 128.0)))], "integers in -127 .. 127, odd"),
    ([conv(None, weight_quantizer=Levels(levels=(-257.0, 257.0)))], "odd ones in -255 .. 255"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "message"), CHAINS, ids=range(len(CHAINS)))
def test_refused_chains(layers: list[nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=message):
        deploy.pack(nn.Sequential(*layers), X, tmp_path / "net.cgrad")
    assert list(tmp_path.iterdir()) == []


def test_a_relu_before_a_heaviside_is_idle_and_allowed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(conv(Heaviside()), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), dense(8 * 9, Heaviside()))  # fmt: skip
    randomise_norms(net, torch.Generator().manual_seed(1))
    net[1].weight.data.abs_()
    program = check(net, tmp_path / "net.cgrad")
    assert [type(op) for op in program.ops[1:4]] == [Conv, Threshold, MaxPool]
