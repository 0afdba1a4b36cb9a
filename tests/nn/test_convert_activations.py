"""Which activations convert removes, and where it puts norms: one small net a row."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coarsegrad.errors import ConvertError
from coarsegrad.nn import convert
from coarsegrad.quantizers import Sign, binary_sign
from coarsegrad.ste import CoarseDerivative, Identity
from float_nets import Lenet, ResNet


class Levels(nn.Module):
    """A quantizer on given levels: the nearest one."""

    def __init__(self, *levels: float) -> None:
        super().__init__()
        self.levels = levels
        self.bits = (len(levels) - 1).bit_length()
        self.ste: CoarseDerivative = Identity()

    def split(self, x: Tensor) -> tuple[Tensor, None]:
        levels = torch.tensor(self.levels)
        return levels[(x.detach()[..., None] - levels).abs().argmin(-1)] + x - x.detach(), None


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def chain(*middle: nn.Module) -> nn.Sequential:
    """A float layer, ``middle``, a layer that is converted, and a float one behind a ReLU."""
    return nn.Sequential(nn.Linear(6, 6), *middle, nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model._modules.values()]


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.GELU(), nn.SiLU(),
     nn.Hardswish(), nn.Tanh(), nn.Hardtanh(), nn.Sigmoid(), nn.Softplus()],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
@pytest.mark.parametrize("between", [[], [nn.BatchNorm1d(6)], [nn.Dropout(), nn.Identity()]])
def test_an_activation_before_a_sign_goes(activation: nn.Module, between: list) -> None:
    model = chain(activation, *between)
    plan = convert(model)
    assert type(model[1]) is nn.Identity
    assert type(model[-2]) is nn.ReLU
    assert plan.undo() is model
    assert model[1] is activation


def test_a_prelu_has_parameters_and_stays() -> None:
    assert kinds(convert(chain(nn.PReLU())).model)[1] == "PReLU"


@pytest.mark.parametrize(
    ("quantizer", "kept"),
    [
        (Levels(0.0, 1.0), False),
        (Levels(-1.0, 0.0, 1.0), False),
        (Levels(-1.0, -0.3, 0.3, 1.0), True),
        (None, True),
    ],
    ids=["heaviside", "ternary", "2 bits", "float"],
)
def test_beyond_three_levels_an_activation_means_something(quantizer, kept: bool) -> None:
    model = chain(nn.ReLU())
    convert(model, quantizer)
    assert (type(model[1]) is nn.ReLU) == kept
    model(torch.randn(4, 6)).sum().backward()


class Fork(nn.Module):
    """A ReLU whose result goes to a converted layer and elsewhere."""

    def __init__(self, elsewhere: str, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.act = nn.ReLU() if activation is None else activation
        self.norm = nn.BatchNorm1d(6)
        self.elsewhere = elsewhere

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.act(self.stem(x))
        y = self.norm(self.body(x))
        if self.elsewhere == "shortcut":
            return self.head(x + y)
        if self.elsewhere == "float layer":
            return self.head(y), self.head(x)
        return self.head(y), x


@pytest.mark.parametrize(
    ("elsewhere", "why"),
    [
        ("shortcut", "also feeds a shortcut (add)"),
        ("float layer", "also feeds head (float input)"),
        ("output", "also feeds the model's output"),
    ],
)
def test_a_relu_that_others_read_stays_and_the_sign_gets_a_norm(elsewhere: str, why: str) -> None:
    model = Fork(elsewhere)
    float_model = Fork(elsewhere)
    float_model.load_state_dict(model.state_dict())
    plan = convert(model)
    assert type(model.act) is nn.ReLU
    assert {c.name: c.why for c in plan.kept}["act"] == f"{why}; a norm comes before body"
    seen: list[Tensor] = []
    model.body.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    x = torch.randn(32, 6)
    result, expected = model(x), float_model(x)
    assert 0.2 < float((seen[0] < 0).float().mean()) < 0.8
    if elsewhere == "output":
        assert torch.equal(result[1], expected[1])


def test_a_sign_keeping_activation_that_others_read_needs_no_norm() -> None:
    plan = convert(Fork("shortcut", nn.LeakyReLU()))
    assert type(plan.model.act) is nn.LeakyReLU
    assert not any("input_norm" in change.name for change in plan.changes)


def test_levels_from_zero_on_need_no_norm_behind_a_relu() -> None:
    plan = convert(Fork("shortcut"), Levels(0.0, 1.0))
    assert type(plan.model.act) is nn.ReLU
    assert not any("input_norm" in change.name for change in plan.changes)


class Reshaped(Fork):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.act(self.stem(x))
        y = self.norm(self.body(x.reshape(x.shape[0], x.size(1))))
        return self.head(y), self.head(x)


def test_a_reshape_to_sizes_passes_values_on() -> None:
    plan = convert(Reshaped(""))
    assert "body_input_norm" in {change.name for change in plan.changes}


class Excite(nn.Module):
    """Squeeze and excitation: a ReLU's result times a gate, then a converted layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.norm, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.norm(self.body(x * self.gate(x))))


@pytest.mark.parametrize("skip", [(), "gate"])
def test_products_of_what_is_never_negative_are_seen(skip: str) -> None:
    model = Excite()
    plan = convert(model, skip=skip)
    added = [change.name for change in plan.changes if "input_norm" in change.name]
    assert added == (["gate.1_input_norm"] if skip == () else []) + ["body_input_norm"]
    seen: list[Tensor] = []
    model.body.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(torch.randn(8, 1, 9, 9))
    assert 0.2 < float((seen[0] < 0).float().mean()) < 0.8


def test_one_relu_object_in_several_slots() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    plan = convert(model)
    assert kinds(model) == ["Linear", "Identity", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    plan.undo()
    assert kinds(model) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert model[1] is model[3] is relu


def test_one_relu_object_called_several_times() -> None:
    model = ResNet()
    convert(model)
    assert type(model.layer1[1].relu) is nn.Identity
    block = model.layer2[1]
    assert type(block.relu) is nn.ReLU
    seen: dict[str, Tensor] = {}
    block.conv2.register_forward_hook(lambda _, inputs, __: seen.update(second=inputs[0]))
    block.register_forward_hook(lambda _, __, result: seen.update(result=result))
    model(torch.randn(4, 1, 16, 16))
    assert bool((seen["second"] < 0).any())
    assert float(seen["result"].detach().min()) == 0


class Overwriting(nn.Module):
    """F.relu_ as a statement: what is read later is the result."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        F.relu_(x)
        y = self.two(x)
        y.relu_()
        return self.head(y)


def test_activations_that_overwrite_their_input() -> None:
    model = Overwriting()
    plan = convert(model)
    assert [(c.name, c.before) for c in plan.changes if c.after == "removed"] == [
        ("Overwriting.forward", "relu_")
    ]
    seen: list[Tensor] = []
    model.two.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    model.head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    model(torch.randn(16, 6))
    assert bool((seen[0] < 0).any())
    assert not bool((seen[1] < 0).any())


@pytest.mark.parametrize(
    ("behind", "inserted"),
    [
        ([], True),
        ([nn.BatchNorm2d(4)], False),
        ([nn.MaxPool2d(2), nn.BatchNorm2d(4)], False),
        ([nn.ReLU(), nn.BatchNorm2d(4)], False),
        ([nn.Dropout2d(), nn.GroupNorm(2, 4)], False),
        ([nn.PReLU(), nn.BatchNorm2d(4)], True),
        ([nn.Softmax2d(), nn.BatchNorm2d(4)], True),
        ([nn.MaxPool2d(2)], True),
    ],
)
def test_a_norm_is_inserted_where_none_is(behind: list[nn.Module], inserted: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), *behind, nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.LazyLinear(2),
    )  # fmt: skip
    x = torch.randn(4, 1, 13, 13)
    model(x)
    convert(model)
    assert ("1_norm" in model._modules) == inserted
    if inserted:
        assert list(model._modules)[1:3] == ["1", "1_norm"]
    model(x).sum().backward()


@pytest.mark.parametrize(
    ("behind", "frozen"),
    [
        ([nn.BatchNorm2d(4)], True),
        ([nn.MaxPool2d(2), nn.Identity(), nn.BatchNorm2d(4)], True),
        ([nn.ReLU(), nn.BatchNorm2d(4)], True),
        ([nn.AvgPool2d(2), nn.BatchNorm2d(4)], True),
        ([nn.AvgPool2d(2, padding=1), nn.BatchNorm2d(4)], False),
        ([nn.GroupNorm(2, 4)], False),
        ([nn.Dropout2d(), nn.BatchNorm2d(4)], False),
    ],
)
def test_only_idle_biases_are_frozen(behind: list[nn.Module], frozen: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), *behind, nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.LazyLinear(2),
    )  # fmt: skip
    model(torch.randn(4, 1, 13, 13))
    bias = model[1].bias
    value = bias.detach().clone()
    plan = convert(model)
    assert model[1].bias is bias
    assert bias.requires_grad != frozen
    assert torch.equal(bias, value)
    assert ("1.bias" in {change.name for change in plan.changes}) == frozen
    plan.undo()
    assert bias.requires_grad


def test_a_bias_that_was_frozen_stays_so() -> None:
    model = chain(nn.BatchNorm1d(6))
    model[2].bias.requires_grad_(False)
    plan = convert(model)
    assert "2.bias" not in {change.name for change in plan.changes}
    plan.undo()
    assert not model[2].bias.requires_grad


def test_a_tied_bias_is_not_frozen() -> None:
    model = chain(nn.BatchNorm1d(6))
    model[-1].bias = nn.Parameter(torch.zeros(2))
    model[0].bias = model[2].bias
    convert(model)
    assert model[0].bias.requires_grad


class Tokens(nn.Module):
    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.stem(x))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).flatten(2).transpose(1, 2)


def test_linear_layers_on_tokens_get_no_batch_norm() -> None:
    model = Tokens(Patches())
    plan = convert(model)
    assert [key for key in model.state_dict() if "norm" in key] == []
    notes = [c.why for c in plan.kept if c.before == "no norm behind it"]
    assert len(notes) == 2
    assert "BatchNorm1d would misread their 3 dimensions: add a norm that fits" in notes[0]
    model(torch.randn(2, 1, 8, 8)).sum().backward()


@pytest.mark.parametrize(
    ("x", "norms", "note"),
    [
        (None, 1, "right for a model fed (N, C)"),
        (torch.zeros(4, 6), 1, ""),
        (torch.zeros(4, 3, 6), 0, "misread their 3 dimensions"),
    ],
    ids=["no batch", "(N, C)", "(N, L, C)"],
)
def test_a_batch_tells_the_shape(x: Tensor | None, norms: int, note: str) -> None:
    model = chain()
    plan = convert(model, x=x)
    assert kinds(model).count("BatchNorm1d") == norms
    whole = " ".join(change.why for change in plan.changes + plan.kept)
    assert note in whole
    assert ("right for a model" in whole) == (x is None)


def test_a_norm_of_unknown_rank_refuses_tokens() -> None:
    model = chain()
    convert(model)
    model(torch.zeros(4, 6))
    for net in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with pytest.raises(ConvertError, match=r"needs \(N, 6\), got \[4, 6, 6\].*x=batch"):
            net(torch.zeros(4, 6, 6))


def test_unknown_shapes_are_said() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(x, 0)

    plan = convert(Tokens(Odd()), first="binary")
    assert any("is not told: pass x=batch" in change.why for change in plan.kept)
    plan = convert(Tokens(Odd()), first="binary", x=torch.zeros(2, 6))
    assert not any("pass x=batch" in change.why for change in plan.kept)


def test_running_statistics_are_not_touched_by_the_example_batch() -> None:
    model = chain(nn.BatchNorm1d(6))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    convert(model, x=torch.randn(8, 6), dry_run=True)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_converted_layer_reads_signs_of_the_unrectified_sum() -> None:
    model = Lenet().eval()
    convert(model)
    x = torch.randn(2, 1, 16, 16)
    seen: list[Tensor] = []
    model.conv2.register_forward_hook(lambda _, inputs, result: seen.extend([inputs[0], result]))
    model(x)
    assert torch.equal(seen[0], F.max_pool2d(model.conv1(x), 2))
    sums = F.conv2d(binary_sign(seen[0]), binary_sign(model.conv2.weight), padding=1)
    assert torch.equal(seen[1], sums + model.conv2.bias.reshape(-1, 1, 1))
    assert isinstance(model.conv2.input_quantizer, Sign)
