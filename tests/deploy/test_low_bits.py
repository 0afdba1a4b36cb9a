"""Activations and weights of 2 to 8 bits, from torch to a packed file that differs in nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coarsegrad import deploy, packed, runtime
from coarsegrad.errors import PackError, VerifyError
from coarsegrad.nn import Conv2d, Linear, NormalizedBatchNorm
from coarsegrad.packed import Conv, Program, runs_on_bits, unpack_weights
from coarsegrad.quantizers import DoReFa, Quantizer, QuantReLU, QuantWeight, precision
from nets import signs, weights
from subjects import TwoBits

X = torch.randint(-8, 9, (7, 2, 9, 8), generator=torch.Generator().manual_seed(0)) / 8


def check(net: nn.Module, path: Path, x: torch.Tensor = X) -> Program:
    """No level differs, and what the file returns is what torch returns."""
    net.eval()
    with torch.no_grad():
        expected = net(x).numpy()
    program = deploy.pack(net, x, path)
    report = deploy.verify(net, path, x, target="numpy")
    assert report.differing_bits == 0
    found = runtime.load(path, target="numpy")(x.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    return program


def chain(
    inputs: Callable[[], Quantizer | None], weight: Callable[[], Quantizer | None]
) -> nn.Sequential:
    """A pool ahead of the norm, one behind it, and a flattening between norm and quantizer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        Conv2d(2, 6, 3, padding=1, weight_quantizer=weight()),
        NormalizedBatchNorm(6),
        nn.ReLU(),
        Conv2d(6, 9, 3, padding=(1, 0), groups=3, input_quantizer=inputs(),
               weight_quantizer=weight()),
        nn.BatchNorm2d(9),
        nn.MaxPool2d(2),
        nn.Flatten(),
        Linear(9 * 12, 12, input_quantizer=inputs(), weight_quantizer=weight()),
        nn.BatchNorm1d(12),
        Linear(12, 3, bias=False, input_quantizer=inputs(), weight_quantizer=weight()),
    )  # fmt: skip
    return settled(net)


def settled(net: nn.Sequential) -> nn.Sequential:
    """Norms that have seen X, with slopes of both signs: every level occurs."""
    for module in net:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.uniform_(module.bias)
    net.train()(X)
    return net.eval()


def of(name: str) -> tuple[Callable[[], Quantizer | None], Callable[[], Quantizer | None]]:
    return lambda: precision(name).inputs, lambda: precision(name).weights


@pytest.mark.parametrize("name", ["W1A2", "W2A2", "W4A4", "W8A8", "W32A2", "W3A8", "W1A32",
                                  "W4A32"])  # fmt: skip
def test_precisions(name: str, tmp_path: Path) -> None:
    net, path = chain(*of(name)), tmp_path / "net.cgrad"
    program = check(net, path)
    if not name.endswith("32"):
        reached = net[7].input_quantizer.split(net[:7](X))[0].unique()
        assert len(reached) >= 4
    layers = {op.name: i for i, op in enumerate(program.ops) if hasattr(op, "shape")}
    bits = [program.values[layers[key]].bits for key in ("3", "7", "9")]
    stored = program.tensors["3.weight"]
    w, a = (int(part) for part in name[1:].split("A"))
    assert bits == [1 if a == 32 else a] * 3
    assert stored.dtype == (np.float32 if w == 32 else np.uint8)
    assert stored.shape[:-1] == {1: (), 32: (9, 2, 3)}.get(w, (w,))
    # Groups of two channels cut through bytes; a sum of floats is no sum of bits.
    assert [runs_on_bits(program, i) for i in layers.values()] == (
        [False, False, True, True] if name == "W1A2" else [False, False, w == 2, w == 2]
    )


def lloyd() -> QuantReLU:
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    return QuantReLU(2).calibrate(x, "lloyd-max")


INPUTS: dict[str, tuple[Callable[[], Quantizer | None], int]] = {
    "1 bit": (lambda: QuantReLU(1), 1),
    "1 bit, round": (lambda: QuantReLU(1, levels="round"), 1),
    "midpoint": (lambda: QuantReLU(2, levels="midpoint"), 2),
    "lsq": (lambda: QuantReLU(3, 0.21, learn="lsq"), 3),
    "pact": (lambda: QuantReLU(3, 0.21, levels="round", learn="pact"), 3),
    "8 bits": (lambda: QuantReLU(8), 8),
}


@pytest.mark.parametrize("name", INPUTS)
def test_quantized_relus(name: str, tmp_path: Path) -> None:
    make, bits = INPUTS[name]
    program = check(chain(make, lambda: weights("channel")), tmp_path / "net.cgrad")
    layer = next(op for op in program.ops if isinstance(op, Conv) and op.name == "3")
    assert layer.low == 0
    value = program.values[program.ops.index(layer)]
    assert (value.kind, value.bits) == ("bits", bits)


def test_free_levels_become_floats_through_a_table(tmp_path: Path) -> None:
    net = chain(lloyd, lambda: weights("channel"))
    program = check(net, tmp_path / "net.cgrad")
    kinds = [op.op for op in program.ops]
    assert kinds.count("levels") == 3
    assert kinds[:4] == ["conv", "threshold", "levels", "conv"]
    layer = net[3].input_quantizer
    assert np.array_equal(program.tensors["3.input_quantizer.levels"],
                          layer.split(torch.tensor(layer.levels))[0].numpy())  # fmt: skip
    assert not any(runs_on_bits(program, i) for i, op in enumerate(program.ops)
                   if hasattr(op, "shape"))  # fmt: skip


def test_levels_are_asked_for_where_stating_them_rounds(tmp_path: Path) -> None:
    """TwoBits states -1/3 and returns what is left of 2/3 - 1."""
    quantizer = TwoBits()
    quantizer.alpha.data.fill_(0.7)
    program = check(chain(lambda: quantizer, lambda: weights("none")), tmp_path / "net.cgrad")
    table = program.tensors["7.input_quantizer.levels"]
    assert table[1] != np.float32(-1 / 3)
    assert np.allclose(table, [-1, -1 / 3, 1 / 3, 1])


WEIGHTS: dict[str, tuple[Callable[[], Quantizer], tuple[int | None, bool]]] = {
    "QuantWeight(1)": (lambda: QuantWeight(1), (None, False)),
    "QuantWeight(2)": (lambda: QuantWeight(2), (None, False)),
    "QuantWeight(3)": (lambda: QuantWeight(3, "tensor"), (3, False)),
    "QuantWeight(8)": (lambda: QuantWeight(8, "learned"), (8, False)),
    "DoReFa(1)": (lambda: DoReFa(1), (None, False)),
    "DoReFa(2)": (lambda: DoReFa(2), (2, True)),
    "DoReFa(8)": (lambda: DoReFa(8), (8, True)),
}


@pytest.mark.parametrize("inputs", [None, signs, lambda: QuantReLU(2)], ids=["float", "1", "2"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name: str, inputs: Callable[[], Quantizer] | None, tmp_path: Path) -> None:
    make, form = WEIGHTS[name]
    torch.manual_seed(0)
    layer = Conv2d(2, 5, 3, input_quantizer=inputs and inputs(), weight_quantizer=make())
    net = nn.Sequential(layer, nn.BatchNorm2d(5), signs())
    program = check(net, tmp_path / "net.cgrad")
    op = next(op for op in program.ops if isinstance(op, Conv))
    assert (op.bits, op.odd) == form
    assert np.array_equal(unpack_weights(op, program.tensors), layer.weight_levels.numpy())


def relu(bits: int = 2, step: float = 0.3) -> QuantReLU:
    return QuantReLU(bits, step)


def binary(channels: int, inputs: Quantizer | None = None) -> Conv2d:
    return Conv2d(channels, 4, 3, bias=False, input_quantizer=inputs,
                  weight_quantizer=weights("none"))  # fmt: skip


PLACES: dict[str, tuple[list[nn.Module], list[str]]] = {
    "the end": ([binary(2, relu()), relu()],
                ["threshold", "conv", "threshold", "levels"]),
    "the end, pooled": ([binary(2, relu()), relu(), nn.MaxPool2d(2), nn.Flatten()],
                        ["threshold", "conv", "threshold", "maxpool", "flatten", "levels"]),
    "the whole": ([relu(3)], ["threshold", "levels"]),
    "on its own, ahead of a float layer": (
        [binary(2), relu(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2)],
        ["conv", "threshold", "maxpool", "levels", "conv", "affine"]),
    "on its own, ahead of packed weights": (
        [binary(2), relu(), binary(4)], ["conv", "threshold", "levels", "conv"]),
    "on its own, with a step of 1": (
        [binary(2), relu(step=1.0), binary(4)], ["conv", "threshold", "conv"]),
    "ahead of another": ([binary(2), relu(4, 0.1), nn.MaxPool2d(2), binary(4, relu(2, 0.45))],
                         ["conv", "threshold", "maxpool", "conv", "affine"]),
    "behind a sign": ([binary(2), signs(), binary(4, relu())],
                      ["conv", "threshold", "conv", "affine"]),
    "between ReLUs": ([binary(2), nn.ReLU(), relu(), nn.ReLU(), binary(4, relu())],
                      ["conv", "threshold", "conv", "affine"]),
    "ahead of an average": ([binary(2), relu(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 2)],
                            ["conv", "threshold", "levels", "avgpool", "flatten", "linear",
                             "affine"]),
    "behind an average": ([binary(2), nn.AvgPool2d(2), binary(4, relu())],
                          ["conv", "avgpool", "threshold", "conv", "affine"]),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_places(place: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers, kinds = PLACES[place]
    program = check(nn.Sequential(*layers), tmp_path / "net.cgrad")
    assert [op.op for op in program.ops] == kinds


def test_a_norm_that_reverses_a_level(tmp_path: Path) -> None:
    """Negative gammas: flipped rows, which fall."""
    torch.manual_seed(0)
    net = nn.Sequential(binary(2, relu()), nn.BatchNorm2d(4), binary(4, relu(3)))
    net[1].weight.data = torch.tensor([1.0, -1, -2, 0.5])
    net[1].running_mean.normal_()
    program = check(net, tmp_path / "net.cgrad")
    t = program.tensors["0.threshold"]
    assert t.shape == (7, 4)
    assert program.tensors["0.flip"].tolist() == [0b0110]
    assert (np.diff(t[:, 1:3].astype(int), axis=0) <= 0).all()
    assert (np.diff(t[:, [0, 3]].astype(int), axis=0) >= 0).all()


def test_sums_too_large_to_be_exact_are_float_sums(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = Linear(700, 3, bias=False, input_quantizer=QuantReLU(8, 1 / 255),
                  weight_quantizer=DoReFa(8))  # fmt: skip
    with torch.no_grad():
        wide.weight.uniform_(2, 3)
    net = nn.Sequential(wide, nn.BatchNorm1d(3), Linear(3, 2, input_quantizer=relu()))
    x = torch.rand(20, 700)
    with torch.no_grad():
        net[1].running_mean.copy_(net[0](x).mean(0))
    path = tmp_path / "net.cgrad"
    program = deploy.pack(net, x, path)
    assert not program.values[2].exact
    assert program.tensors["0.threshold"].dtype == np.float32
    report = deploy.verify(net, path, x, target="numpy")
    assert report.layers["0"].differing <= report.layers["0"].near_threshold


def test_the_report_speaks_of_levels(tmp_path: Path) -> None:
    net = nn.Sequential(binary(2, signs()), binary(4, relu(3)))
    deploy.pack(net, X, tmp_path / "net.cgrad")
    report = deploy.verify(net, tmp_path / "net.cgrad", X, target="numpy")
    assert [layer.width for layer in report.layers.values()] == [1, 3, 1]
    assert f"0 of {report.compared_bits:,} levels differ" in str(report)


REFUSED: list[tuple[list[nn.Module], str]] = [
    (
        [relu(), signs(), binary(2)],
        "1 makes one level of the 4 levels 0 and 0.9 of 0; remove one of the two quantizers",
    ),
    ([relu(), nn.BatchNorm2d(2)], "1 is a batch norm behind a quantizer"),
    ([signs(), nn.ReLU(), binary(2, relu())], r"1 \(ReLU\) stands behind a sign"),
    ([Conv2d(2, 3, 3, input_quantizer=relu(), padding=1, pad_value=1.0)], "pad"),
]


@pytest.mark.parametrize(("layers", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused(layers: list[nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=message):
        deploy.pack(nn.Sequential(*layers), X, tmp_path / "net.cgrad")
    assert list(tmp_path.iterdir()) == []


def changed(path: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    program = packed.read(path)
    tensors = {key: value.copy() for key, value in program.tensors.items()}
    change(tensors[name])
    packed.write(path, Program(program.input, program.ops, tensors))


def a_little_more(array: np.ndarray) -> None:
    array += 2 if array.dtype.kind == "i" else np.float32(0.05)


def exchange_weights(array: np.ndarray) -> None:
    array[:, :4] = np.roll(array[:, :4], 1, axis=1)


def other_level(array: np.ndarray) -> None:
    array[2] += 0.01


@pytest.mark.parametrize(("name", "tensor", "change", "message"), [
    ("W4A2", "7.threshold", a_little_more, r"^7: \d+ of 84 levels differ. Was"),
    ("W4A2", "0.threshold", a_little_more, r"^0: \d+ of 3024 levels differ"),
    ("W4A2", "7.weight", exchange_weights, "^7: .* levels differ"),
    ("W4A2", "9.weight", exchange_weights, "^9: floats differ"),
    ("free", "9.input_quantizer.levels", other_level, "^9: floats differ"),
])  # fmt: skip
def test_a_changed_file_is_found(name, tensor, change, message, tmp_path: Path) -> None:
    inputs = lloyd if name == "free" else of(name)[0]
    net, path = chain(inputs, of("W4A2")[1]).eval(), tmp_path / "net.cgrad"
    deploy.pack(net, X, path)
    changed(path, tensor, change)
    with pytest.raises(VerifyError, match=message):
        deploy.verify(net, path, X, target="numpy")
