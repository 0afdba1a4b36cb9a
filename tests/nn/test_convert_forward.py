"""Forwards that convert generates: they are the user's, with other activations and norms."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from coarsegrad.errors import ConvertError
from coarsegrad.nn import LatentWeight, convert
from float_nets import FunctionalBlock, Lenet, ResNet, TwoHeads


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LatentWeight) or super().is_leaf_module(m, module_qualified_name)


def test_the_instance_stays_what_it_was() -> None:
    model, twin = Lenet(), Lenet()
    convert(model)
    assert isinstance(model, Lenet)
    assert type(model) is not Lenet
    assert type(model).__name__ == "Lenet"
    assert type(model).__qualname__ == Lenet.__qualname__
    assert repr(model).startswith("Lenet(")
    assert type(twin) is Lenet


def test_blocks_are_changed_and_what_holds_them_is_not() -> None:
    model = ResNet(FunctionalBlock)
    heard: list[str] = []
    model.layer1[0].register_forward_hook(lambda *_: heard.append("block"))
    model.layer1.register_forward_hook(lambda *_: heard.append("layer"))
    convert(model)
    assert type(model) is ResNet
    assert type(model.layer1) is nn.Sequential
    assert isinstance(model.layer1[0], FunctionalBlock)
    assert type(model.layer1[0]) is not FunctionalBlock
    model(torch.randn(2, 1, 16, 16))
    assert heard == ["block", "layer"]


def test_dropout_follows_the_mode() -> None:
    model, x = Lenet(), torch.randn(8, 1, 16, 16)
    convert(model)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    dropped: list[Tensor] = []
    model.fc2.register_forward_hook(lambda _, inputs, __: dropped.append(inputs[0]))
    model(x)
    model.eval()(x)
    train, evaluation = (float((value == 0).float().mean()) for value in dropped)
    assert train > 0.6
    assert evaluation < 0.6


@pytest.mark.parametrize("make", [Lenet, TwoHeads, lambda: ResNet(FunctionalBlock)])
def test_copies_and_pickles_compute_the_same(make) -> None:
    model = make()
    convert(model)
    model.eval()
    x = torch.randn(2, 12) if isinstance(model, TwoHeads) else torch.randn(2, 1, 16, 16)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)
        assert list(other.state_dict()) == list(model.state_dict())
        assert type(other).__mro__[-3:] == type(model).__mro__[-3:]
        other.load_state_dict(model.state_dict())


def test_a_copy_is_a_model_of_its_own() -> None:
    model = Lenet()
    plan = convert(model)
    twin = copy.deepcopy(model)
    plan.undo()
    assert isinstance(twin.fc1_norm, nn.BatchNorm1d)
    twin(torch.randn(4, 1, 16, 16)).sum().backward()
    assert model.conv1.weight.grad is None


def test_torch_fx_sees_the_new_forward() -> None:
    model = Lenet()
    convert(model)
    model.eval()
    graph = Tracer().trace(model)
    targets = [node.target for node in graph.nodes if node.op == "call_module"]
    assert targets == ["conv1", "conv2", "conv2_norm", "fc1", "fc1_norm", "fc2"]
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(fx.GraphModule(model, graph)(x), model(x))


@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
def test_torch_compile_sees_the_new_forward() -> None:
    model, x = Lenet().eval(), torch.randn(2, 1, 16, 16)
    convert(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), model(x))


class Decode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        x = F.relu(x)
        if skip is not None:
            x = x + skip
        return self.conv(x) * scale


class Decoder(nn.Module):
    """A block called with and without an optional tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 1)
        self.one, self.two = Decode(), Decode()

    def forward(self, x: Tensor, double: bool = False) -> Tensor:
        x = self.stem(x)
        x = self.head(self.two(self.one(x), x))
        return x * 2 if double else x


def test_arguments_that_are_no_tensors() -> None:
    model = Decoder()
    convert(model)
    one, two, x = model.one, model.two, torch.randn(4, 4, 5, 5)
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    assert one(x).shape == one(x, None, scale=1.0).shape == two(x, x).shape
    with pytest.raises(ConvertError, match=r"Decode\.forward was converted for skip=None, got a T"):
        one(x, x)
    with pytest.raises(ConvertError, match=r"converted for scale=1\.0, got 2\.0; undo the plan"):
        two(x, x, scale=2.0)
    # The forward of the model itself is the user's.
    x = torch.randn(4, 1, 8, 8)
    model.eval()
    assert torch.equal(model(x, double=True), 2 * model(x))


class Owner(nn.Module):
    """Calls the layers of a Sequential one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(6, 6) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


def test_a_norm_goes_where_the_layer_is_called() -> None:
    model = Owner()
    convert(model)
    assert list(model.layers._modules) == ["0", "1", "2", "3"]
    assert {"layers_1_norm", "layers_2_norm"} <= set(model._modules)
    model(torch.randn(8, 6)).sum().backward()
    assert model.get_submodule("layers_1_norm").weight.grad is not None


class Named(Owner):
    def __init__(self) -> None:
        super().__init__()
        self.layers_1_norm = nn.Identity()


def test_names_that_are_taken_stay() -> None:
    model = Named()
    convert(model)
    assert type(model.layers_1_norm) is nn.Identity
    assert isinstance(model.get_submodule("layers_1_norm_2"), nn.BatchNorm1d)


class Shared(nn.Module):
    """One layer called twice, and one block called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.both, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.block = Owner()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.both(F.relu(self.both(F.relu(self.stem(x))))))
        return self.head(self.block(self.block(x)))


def test_each_call_of_a_layer_gets_a_norm_and_each_line_of_code_one() -> None:
    model = Shared()
    convert(model)
    norms = [
        n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm1d) and "input" not in n
    ]
    assert norms == [*(f"block.layers_{i}_norm" for i in range(4)), "both_norm", "both_norm_2"]
    model(torch.randn(8, 6)).sum().backward()


class Pixels(nn.Module):
    """Makes a tensor in its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.three(F.relu(self.two(F.relu(self.one(x - torch.tensor([1.0, 2.0, 3.0]))))))


def test_a_forward_that_makes_tensors_and_need_not_change() -> None:
    model = nn.Sequential(Pixels(), nn.Linear(3, 3))
    model[0].three = nn.Identity()
    plan = convert(model, skip="0", last="weights", x=torch.zeros(2, 3))
    assert {change.name for change in plan.changes} == {"1", "1_norm", "1.bias"}


class Chosen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Decode()
        self.stem, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.block(self.block(x), x))


class Scaled(Chosen):
    """The same operations with another number."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(self.stem(x)), scale=2.0))


def patched() -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 12), TwoHeads())
    model[1].forward = model[1].forward
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (Pixels, r"forward of the model \(Pixels\), which makes tensors of its own; register"),
        (Chosen, r"forward of block \(Decode\), which runs differently in different places"),
        (Scaled, r"forward of block \(Decode\), which runs differently in different places"),
        (patched, "which hangs on the instance instead of the class"),
    ],
)
def test_forwards_that_cannot_be_generated(make, match: str) -> None:
    model = make()
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ConvertError, match=match):
        convert(model)
    assert [type(module) for module in model.modules()] == classes


class Noise(nn.Module):
    """Python that depends on the mode, in a module without layers."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] > 1:
            return x + torch.randn_like(x)
        return x


def test_modules_without_layers_may_do_what_they_like() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Noise(), nn.Linear(4, 4))
    convert(model)
    assert list(model._modules) == ["0", "1", "1_norm", "2", "3"]


class Remembering(TwoHeads):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.last = x
        return super().forward(x)


def test_tracing_leaves_no_trace_on_the_model() -> None:
    model = Remembering()
    heard: list[object] = []
    model.trunk.register_forward_hook(lambda *_: heard.append(_))
    model.trunk[0].eval()
    convert(model, dry_run=True)
    assert not hasattr(model, "last")
    assert heard == []
    assert model.training
    assert not model.trunk[0].training
