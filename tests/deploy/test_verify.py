from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from coarsegrad import deploy, models, packed, runtime
from coarsegrad.errors import VerifyError
from coarsegrad.nn import Conv2d, Linear
from coarsegrad.packed import Program
from nets import float_tails, networks, randomise_norms, signs, weights


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks_differ_in_no_bit(
    tmp_path_factory: pytest.TempPathFactory, network: tuple[nn.Sequential, torch.Tensor]
) -> None:
    net, x = network
    path = tmp_path_factory.mktemp("net") / "net.cgrad"
    deploy.pack(net, x, path)
    report = deploy.verify(net, path, x)
    assert report.differing_bits == 0
    assert report.logits_error <= 1e-5
    assert report.samples == len(x)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(low_bits=True))
def test_random_networks_of_several_bits_differ_in_no_level(
    tmp_path_factory: pytest.TempPathFactory, network: tuple[nn.Sequential, torch.Tensor]
) -> None:
    net, x = network
    path = tmp_path_factory.mktemp("net") / "net.cgrad"
    deploy.pack(net, x, path)
    report = deploy.verify(net, path, x, target="numpy")
    assert report.differing_bits == 0
    assert report.logits_error <= 1e-5
    with torch.no_grad():
        expected = net.eval()(x).numpy()
    found = runtime.load(path, target="numpy")(x.numpy())
    # Where a norm takes all of a sum away, the logits are what rounding left.
    largest = max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * largest)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(float_tails(), st.data())
def test_random_float_tails_agree_on_every_target(
    tmp_path_factory: pytest.TempPathFactory,
    network: tuple[nn.Sequential, torch.Tensor],
    data: st.DataObject,
) -> None:
    net, x = network
    path = tmp_path_factory.mktemp("net") / "net.cgrad"
    deploy.pack(net, x, path)
    target = data.draw(st.sampled_from([t.name for t in runtime.targets() if t.runs]))
    report = deploy.verify(net, path, x, target=target)
    assert report.differing_bits == 0
    assert report.logits_error <= 1e-5


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("small_cnn", {}, (1, 28, 28)),
        ("mlp", {}, (1, 28, 28)),
        ("lenet5", {}, (1, 28, 28)),
        ("lenet5", {"float_ends": True}, (1, 28, 28)),
        ("lenet5", {"precision": "W1A2"}, (1, 28, 28)),
        ("lenet5", {"precision": "W2A2", "float_ends": True}, (1, 28, 28)),
        ("lenet5", {"precision": "W4A4"}, (1, 28, 28)),
        ("vgg_small", {"width": 8}, (3, 32, 32)),
        ("vgg_small", {"width": 8, "float_ends": False}, (3, 32, 32)),
    ],
)
def test_models_on_pixels(
    name: str, options: dict[str, Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = getattr(models, name)(**options)
    randomise_norms(net, torch.Generator().manual_seed(1))
    x = (torch.randint(0, 256, (300, *shape)) - 128) / 128
    deploy.pack(net, x, tmp_path / "net.cgrad")
    report = deploy.verify(net, tmp_path / "net.cgrad", x)
    assert report.differing_bits == 0
    assert report.compared_bits > 100_000
    assert report.argmax_agreement == report.samples == 300
    assert "0 of" in str(report)


def off_grid() -> tuple[nn.Sequential, torch.Tensor]:
    """A float-fed layer whose sums need rounding, with thresholds on sums that occur."""
    torch.manual_seed(0)
    net = nn.Sequential(
        Conv2d(3, 8, 3, padding=1, bias=False, weight_quantizer=weights("channel")),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(8),
        Conv2d(8, 4, 3, bias=False, input_quantizer=signs(), weight_quantizer=weights("none")),
    )
    x = torch.rand(20, 3, 10, 10)
    with torch.no_grad():
        bn = net[2]
        bn.running_mean.copy_(net[1](net[0](x))[0, :, 2, 2])
        bn.running_var.fill_(1 - bn.eps)
    return net, x


def test_rounding_of_float_sums_is_counted_not_hidden(tmp_path: Path) -> None:
    net, x = off_grid()
    deploy.pack(net, x, tmp_path / "net.cgrad")
    report = deploy.verify(net, tmp_path / "net.cgrad", x)
    first = report.layers["0"]
    assert first.near_threshold >= 1
    assert first.differing <= first.near_threshold < 0.01 * first.compared


def changed(path: Path, name: str, change) -> None:
    program = packed.read(path)
    tensors = {key: value.copy() for key, value in program.tensors.items()}
    change(tensors[name])
    packed.write(path, Program(program.input, program.ops, tensors))


def shift_one(array: np.ndarray) -> None:
    array.reshape(-1)[0] += 2


def flip_bit(array: np.ndarray) -> None:
    array.reshape(-1)[0] ^= 1


def shift_first(array: np.ndarray) -> None:
    array.reshape(-1)[0] += 0.5


@pytest.mark.parametrize(
    ("tensor", "change", "layer"),
    [
        ("3.threshold", shift_one, "3: "),
        ("6.weight", flip_bit, "6: "),
        ("0.threshold", shift_first, "0: "),
        ("12.affine", shift_first, "11: floats differ"),
        ("11.weight", flip_bit, "11: floats differ"),
    ],
)
def test_a_changed_file_is_found_and_the_layer_named(
    tensor: str, change, layer: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = models.small_cnn()
    x = (torch.randint(0, 256, (64, 1, 28, 28)) - 128) / 128
    net(x)
    path = tmp_path / "net.cgrad"
    deploy.pack(net, x, path)
    changed(path, tensor, change)
    with pytest.raises(VerifyError, match=f"^{layer}.*Pack it again"):
        deploy.verify(net, path, x)


def test_another_models_file(tmp_path: Path) -> None:
    x = torch.zeros(2, 1, 28, 28)
    deploy.pack(models.mlp(), x, tmp_path / "net.cgrad")
    with pytest.raises(VerifyError, match="holds another network than this model"):
        deploy.verify(models.small_cnn(), tmp_path / "net.cgrad", x)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    net = nn.Sequential(Linear(4, 3, weight_quantizer=weights("none")), nn.BatchNorm1d(3))
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    deploy.pack(net, torch.randn(2, 4), tmp_path / "net.cgrad")
    deploy.verify(net, tmp_path / "net.cgrad", torch.randn(2, 4))
    assert net.training
    assert net[1].training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_packed_weights_are_the_signs_of_the_latents(tmp_path: Path) -> None:
    net = models.small_cnn()
    program = deploy.pack(net, torch.zeros(1, 1, 28, 28), tmp_path / "net.cgrad")
    layer = net[3]
    stored = packed.unpack_bits(program.tensors["3.weight"], layer.weight.numel())
    assert np.array_equal(stored.reshape(layer.weight.shape), layer.weight_binary.numpy())
    assert runtime.load(tmp_path / "net.cgrad").program.ops == program.ops


def test_a_layer_used_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shared = Linear(8, 8, bias=False, input_quantizer=signs(), weight_quantizer=weights("none"))
    last = Linear(8, 4, input_quantizer=signs(), weight_quantizer=weights("none"))
    net = nn.Sequential(shared, nn.BatchNorm1d(8), shared, nn.BatchNorm1d(8), last)
    randomise_norms(net, torch.Generator().manual_seed(0))
    x = torch.randn(16, 8)
    program = deploy.pack(net, x, tmp_path / "net.cgrad")
    assert {"0.threshold", "0@2.threshold"} <= program.tensors.keys()
    report = deploy.verify(net, tmp_path / "net.cgrad", x)
    assert report.differing_bits == 0
    assert list(report.layers) == ["input", "0", "0@2", "4"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_not_finite_do_not_pass(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Sequential(Linear(4, 3, weight_quantizer=weights("none")))
    x = torch.randn(2, 4)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    run = runtime.Model.run

    def broken(model: runtime.Model, start: int, stop: int, given: np.ndarray) -> np.ndarray:
        return run(model, start, stop, given) * np.float32(value)

    monkeypatch.setattr(runtime.Model, "run", broken)
    with pytest.raises(VerifyError, match="floats differ by inf"):
        deploy.verify(net, tmp_path / "net.cgrad", x)


def test_a_whole_that_differs_from_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = Linear(3, 2, input_quantizer=signs(), weight_quantizer=weights("none"))
    net = nn.Sequential(Linear(4, 3, weight_quantizer=weights("none")), nn.BatchNorm1d(3), last)
    x = torch.randn(2, 4)
    program = deploy.pack(net, x, tmp_path / "net.cgrad")
    run = runtime.Model.run

    def broken(model: runtime.Model, start: int, stop: int, given: np.ndarray) -> np.ndarray:
        whole = (start, stop) == (0, len(program.ops))
        return run(model, start, stop, given) + np.float32(whole)

    monkeypatch.setattr(runtime.Model, "run", broken)
    with pytest.raises(VerifyError, match="though every layer agrees"):
        deploy.verify(net, tmp_path / "net.cgrad", x)


def test_a_bias_that_torch_sums_along_is_part_of_the_margin(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Flatten(),
                        Linear(32 * 64, 2, input_quantizer=signs(),
                               weight_quantizer=weights("none")))  # fmt: skip
    x = torch.rand(20, 3, 10, 10)
    with torch.no_grad():
        net[0].weight.mul_(0.01)
        net[0].bias.uniform_(1, 2)
        net[1].running_mean.copy_(net[0](x)[0, :, 3, 3])
        net[1].running_var.fill_(1e-4)
    deploy.pack(net, x, tmp_path / "net.cgrad")
    report = deploy.verify(net, tmp_path / "net.cgrad", x)
    assert report.layers["0"].near_threshold < 0.05 * report.layers["0"].compared
