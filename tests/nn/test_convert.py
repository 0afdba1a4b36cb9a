"""Which layers convert changes, what they keep, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.deploy import pack, verify
from coarsegrad.errors import ConvertError
from coarsegrad.nn import Conv2d, Linear, convert
from coarsegrad.optim import BAMSProd, Split
from coarsegrad.quantizers import Sign
from coarsegrad.ste import ClippedIdentity, Identity, Triangle
from float_nets import FunctionalBlock, Lenet, MobileNet, ResNet, TwoHeads, mlp, vgg

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg": (vgg, (8, 1, 16, 16)),
    "vgg without norms": (lambda: vgg(norm=False), (8, 1, 16, 16)),
    "resnet": (ResNet, (8, 1, 16, 16)),
    "functional resnet": (lambda: ResNet(FunctionalBlock), (8, 1, 16, 16)),
    "mobilenet": (MobileNet, (8, 3, 16, 16)),
    "lenet": (Lenet, (8, 1, 16, 16)),
    "two heads": (TwoHeads, (8, 12)),
    "mlp": (mlp, (8, 12)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def total(result: Tensor | dict[str, Tensor]) -> Tensor:
    return result.pow(2).sum() if isinstance(result, Tensor) else sum(map(total, result.values()))


def quantized(model: nn.Module) -> dict[str, str]:
    """Return 'wx', 'w' or 'x' for each layer: which sides are quantized."""
    return {
        name: "w" * (module.weight_quantizer is not None)
        + "x" * (module.input_quantizer is not None)
        for name, module in model.named_modules()
        if isinstance(module, (Conv2d, Linear))
    }


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("ends", ["float", "weights", "binary"])
def test_each_net_trains_one_step(name: str, ends: str) -> None:
    make, shape = NETS[name]
    model, x = make(), torch.randn(shape)
    keys = set(model.state_dict())
    convert(model, first=ends, last=ends)  # type: ignore[arg-type]
    assert keys <= set(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    total(model(x)).backward()
    latents = [m.weight for m in model.modules() if isinstance(m, (Conv2d, Linear))]
    for parameter in model.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
        assert (parameter.grad is None) == (not parameter.requires_grad)
    assert sum(float(latent.grad.abs().sum()) > 0 for latent in latents) == len(latents)
    before = [latent.detach().clone() for latent in latents]
    optimizer.step()
    assert not any(map(torch.equal, before, latents))
    assert bool(torch.isfinite(total(model(x))))


def test_ends_are_found_by_execution_not_by_registration() -> None:
    model = ResNet()
    assert next(iter(model.children())) is model.fc
    assert list(model.children())[-3] is not model.conv1
    convert(model)
    found = quantized(model)
    assert "conv1" not in found
    assert "fc" not in found
    assert type(model.conv1) is nn.Conv2d
    assert len(found) == 9


@pytest.mark.parametrize(
    ("first", "last", "conv1", "fc2"),
    [
        ("float", "float", None, None),
        ("weights", "float", "w", None),
        ("float", "weights", None, "w"),
        ("binary", "float", "wx", None),
        ("weights", "binary", "w", "wx"),
    ],
)
def test_ends(first: str, last: str, conv1: str | None, fc2: str | None) -> None:
    model = Lenet()
    convert(model, first=first, last=last)  # type: ignore[arg-type]
    found = quantized(model)
    assert (found.get("conv1"), found.get("fc2")) == (conv1, fc2)
    assert found["conv2"] == found["fc1"] == "wx"


def test_every_head_is_last() -> None:
    model = TwoHeads()
    convert(model)
    assert quantized(model) == {"trunk.2": "wx", "hidden": "wx"}


class Sized(Lenet):
    def forward(self, x: Tensor) -> Tensor:
        batch, cells = x.shape[0], x.shape[2] * x.size(3)
        x = nn.functional.relu(self.conv2(nn.functional.max_pool2d(self.conv1(x), 4)))
        return self.fc2(self.fc1(x.reshape(batch, cells).relu()))


def test_a_reshape_by_the_sizes_of_the_input_makes_no_layer_first() -> None:
    model = Sized()
    convert(model)
    assert quantized(model) == {"conv2": "wx", "fc1": "wx"}
    model(torch.randn(2, 1, 16, 16)).sum().backward()


@pytest.mark.parametrize("side", ["input_quantizer", "weight_quantizer"])
def test_none_leaves_one_side_float(side: str) -> None:
    model = mlp()
    plan = convert(model, **{side: None})  # type: ignore[arg-type]
    kind = "w" if side == "input_quantizer" else "x"
    assert quantized(model) == {"2": kind, "4": kind}
    relus = sum(isinstance(module, nn.ReLU) for module in model)
    assert relus == (3 if kind == "w" else 1)
    norms = sum(isinstance(module, nn.BatchNorm1d) for module in model)
    assert norms == (2 if kind == "w" else 0)
    assert "bit" in str(plan)


def test_each_layer_has_quantizers_of_its_own() -> None:
    mine = Sign(ste=Triangle())
    model = mlp()
    convert(model, mine, Sign(scale="channel"))
    first, second = model[2], model.get_submodule("4")
    assert isinstance(first.input_quantizer.ste, Triangle)
    assert first.weight_quantizer.scale == "channel"
    objects = [first.input_quantizer, second.input_quantizer, first.weight_quantizer,
               second.weight_quantizer, mine]  # fmt: skip
    assert len(set(map(id, objects))) == 5


def test_the_default_quantizers() -> None:
    model = mlp()
    convert(model)
    assert isinstance(model[2].input_quantizer.ste, ClippedIdentity)
    assert isinstance(model[2].weight_quantizer.ste, Identity)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 8, 3, stride=2, padding=(1, 2), dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect", groups=4),
        nn.Conv2d(4, 4, (1, 3), padding=(0, 1), padding_mode="circular", dtype=torch.float64),
    ],
    ids=["strided", "reflect", "circular"],
)
def test_a_layer_keeps_all_it_has(layer: nn.Conv2d) -> None:
    layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
    layer.weight.requires_grad_(False)
    heard: list[str] = []
    layer.register_forward_hook(lambda *_: heard.append("hook"))
    layer.eval()
    model = nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels).to(layer.weight.dtype))
    x = torch.randn(2, 4, 9, 9, dtype=layer.weight.dtype)
    expected = nn.Sequential(copy.deepcopy(layer))
    expected[0].weight.data = torch.where(layer.weight < 0, -1.0, 1.0).to(layer.weight.dtype)
    parameters = dict(model.named_parameters())
    convert(model, None, first="binary", last="binary")
    new = model[0]
    assert type(new) is Conv2d
    assert all(value is parameters[name] for name, value in model.named_parameters())
    assert list(model.state_dict())[: len(parameters)][0] == "0.weight"
    assert new.weight.is_contiguous(memory_format=torch.channels_last)
    assert (new.weight.requires_grad, new.training) == (False, False)
    torch.testing.assert_close(new(x), expected(x))
    assert heard == ["hook", "hook"]


def test_half_precision_meta_and_mode_reach_what_is_inserted() -> None:
    model = mlp().to(torch.bfloat16).eval()
    convert(model)
    norm = model.get_submodule("2_norm")
    assert norm.weight.dtype == torch.bfloat16
    assert not norm.training
    meta = mlp().to("meta")
    convert(meta)
    assert meta.get_submodule("2_norm").weight.device.type == "meta"


def test_shared_modules_and_tied_parameters_stay_so() -> None:
    shared = nn.Linear(6, 6)
    tied = nn.Linear(6, 6)
    tied.weight = shared.weight
    model = nn.Sequential(nn.Linear(6, 6), shared, nn.BatchNorm1d(6), shared, tied, nn.Linear(6, 2))
    convert(model)
    assert type(model[1]) is Linear
    assert model.get_submodule("1") is model.get_submodule("3")
    assert model.get_submodule("4").weight is model.get_submodule("1").weight
    # Behind "1" stands a norm, behind "3" none: each use is looked at.
    assert list(model._modules) == ["0", "1", "2", "3", "3_norm", "4", "4_norm", "5"]


def test_a_weight_that_a_float_layer_holds_too_stays_float() -> None:
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(5)))
    model[2].weight = model[1].weight
    model[4].weight = model[2].weight
    plan = convert(model)
    assert list(quantized(model)) == ["3"]
    kept = {change.name: change.why for change in plan.kept}
    assert kept["1"] == kept["2"] == "its weight is also that of 4, a float one"
    Split(model, binary=(BAMSProd, {}), real=(torch.optim.Adam, {}))


class Strange(nn.Linear):
    pass


def test_what_is_left_alone_says_why() -> None:
    layer = nn.Linear(4, 4)
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    transformer = nn.TransformerEncoderLayer(4, 2, 8)
    computed = nn.Linear(4, 4)
    computed.weight_v = nn.Parameter(computed.weight.detach().clone())
    del computed.weight
    computed.weight = 2 * computed.weight_v
    model = nn.Sequential(nn.Linear(4, 4), Strange(4, 4), normed, layer, transformer, computed,
                          nn.Linear(4, 4))  # fmt: skip
    plan = convert(model)
    assert list(quantized(model)) == ["3"]
    kept = {change.name: change.why for change in plan.kept}
    assert kept["0"] == "first: the input feeds it"
    assert kept["5"] == "its weight is computed from other parameters"
    assert kept["6"] == "last: it feeds the output"
    assert "only inside a module torch runs itself" in kept["4.linear1"]


def test_a_layer_that_is_never_called_stays() -> None:
    model = TwoHeads()
    model.spare = nn.Linear(3, 3)
    plan = convert(model)
    assert type(model.spare) is nn.Linear
    assert any(c.name == "spare" and "does not call it" in c.why for c in plan.kept)


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        (r"layer1\.0\.conv1", {"layer1.0.conv1"}),
        ("layer1", {f"layer1.{i}.conv{j}" for i in (0, 1) for j in (1, 2)}),
        ([r".*\.conv1", "layer2.0.downsample"], {"layer1.0.conv1", "layer1.1.conv1",
         "layer2.0.conv1", "layer2.1.conv1", "layer2.0.downsample.0"}),
    ],
)  # fmt: skip
def test_skip(skip: str | list[str], left: set[str]) -> None:
    every = set(quantized(convert(ResNet()).model))
    plan = convert(ResNet(), skip=skip)
    assert every - set(quantized(plan.model)) == left
    assert {c.name for c in plan.kept if c.why.startswith("skip=")} == left


def test_a_pattern_matches_the_whole_name() -> None:
    model = ResNet()
    convert(model, skip="conv1")
    assert len(quantized(model)) == 9


def test_a_second_conversion_does_the_rest() -> None:
    model = Lenet()
    one = convert(model, skip="fc1")
    two = convert(model)
    assert quantized(model) == {"conv2": "wx", "fc1": "wx"}
    with pytest.raises(ConvertError, match="undo later conversions first"):
        one.undo()
    two.undo()
    one.undo()
    assert quantized(model) == {}


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else self.body(-x)


class Moody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x)) if self.training else self.two(x)


REFUSALS: list[tuple[Callable[[], nn.Module], dict, str]] = [
    (Branching, {}, r"torch.fx can trace, got Branching, in which its own forward fails.*control"),
    (lambda: nn.Sequential(mlp(), Branching()), {}, r"in which 1 \(Branching\) fails with"),
    (Moody, {}, "training and evaluation compute different things"),
    (nn.ReLU, {}, "nothing to convert in ReLU: it has no torch.nn.Conv2d or Linear"),
    (lambda: nn.Sequential(nn.Linear(2, 2)), {}, "nothing to convert.*0: first: the input"),
    (lambda: nn.Linear(2, 2), {}, "got a bare Linear; wrap it in nn.Sequential"),
    (lambda: convert(mlp()).model, {}, "already converted or quantized.*undo"),
    (mlp, {"skip": "22"}, r"got '22', which matches none of 0, 2, 4, 6. Did you mean '2'\?"),
    (ResNet, {"skip": ["conv1", "layr1"]}, r"'layr1'.*Did you mean 'layer1'\?"),
    (mlp, {"skip": "("}, "regular expressions, got '\\(', which fails with"),
    (mlp, {"first": "weight"}, r"first to be one of.*got 'weight'.*Did you mean 'weights'\?"),
    (mlp, {"last": None}, "last to be one of float, weights, binary, got None"),
    (mlp, {"input_quantizer": Sign}, r"input_quantizer to be a quantizer object.*mean Sign\(\)\?"),
    (mlp, {"weight_quantizer": "tanh"}, "weight_quantizer to be a quantizer object, 'sign' or"),
    (mlp, {"input_quantizer": None, "weight_quantizer": None}, "got None for both"),
    (mlp, {"input_quantizer": Sign(scale="channel")}, "cannot give 2 these quantizers"),
    (mlp, {"x": torch.zeros(2, 5)}, r"x to be a batch that the model accepts, got \[\[2, 5\]\]"),
    (mlp, {"weight_quantizer": None, "first": "weights", "skip": ["[24]"]}, "weight_quantizer is"),
]


@pytest.mark.parametrize(("make", "arguments", "match"), REFUSALS)
def test_refusals_leave_the_model_alone(
    make: Callable[[], nn.Module], arguments: dict, match: str
) -> None:
    model = make()
    modules = {name: (module, type(module)) for name, module in model.named_modules()}
    with pytest.raises(ConvertError, match=match):
        convert(model, **arguments)
    assert {name: (module, type(module)) for name, module in model.named_modules()} == modules
    assert all(module.training for module in model.modules())


def test_refuses_what_is_no_model() -> None:
    with pytest.raises(ConvertError, match=r"needs a torch\.nn\.Module, got function"):
        convert(mlp)  # type: ignore[arg-type]


def test_refuses_what_cannot_be_copied() -> None:
    model = mlp()
    model.generator = (number for number in range(3))
    with pytest.raises(ConvertError, match=r"that copy.deepcopy can copy.*cannot pickle"):
        convert(model)


@pytest.mark.parametrize("name", ["vgg", "vgg without norms", "lenet"])
def test_a_converted_chain_is_packed_and_verified(name: str, tmp_path) -> None:
    make, shape = NETS[name]
    model, x = make(), torch.rand(shape)
    convert(model, first="weights", last="binary")
    model(x)
    pack(model.eval(), x, tmp_path / "net.cgrad")
    assert verify(model, tmp_path / "net.cgrad", x).differing_bits == 0


def test_blocks_of_torchvision() -> None:
    try:
        from torchvision.models import resnet18
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    model = resnet18(weights=None)
    x = torch.randn(4, 3, 64, 64)
    expected = model.eval()(x)
    plan = convert(model)
    assert len(quantized(model)) == 19
    plan.undo()
    assert torch.equal(model(x), expected)
