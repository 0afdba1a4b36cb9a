"""The plan: its text, its way back, and dry runs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.errors import ConvertError
from coarsegrad.nn import Change, Plan, convert
from float_nets import FunctionalBlock, Lenet, MobileNet, ResNet, TwoHeads, mlp, vgg

TEXT = """\
convert Sequential

changed  from -> to              why
-------  ----------------------  -----------------------------------------------
0        Conv2d -> 1-bit         first: the input feeds it
         weights, float inputs
2        Conv2d -> 1-bit         neither first nor last
         weights, 1-bit inputs
6        Linear -> 1-bit         neither first nor last
         weights, 1-bit inputs
1        ReLU -> Identity        before the quantized input of 2 it would leave
                                 no -1
4        ReLU -> Identity        before the quantized input of 6 it would leave
                                 no -1
0_norm   nothing ->              the sums of 0 reach 2 without a norm
         BatchNorm2d(8)
6_norm   nothing ->              the sums of 6 reach 7 without a norm
         BatchNorm1d(8)
0.bias   trained -> frozen       idle: subtracted again by 0_norm
2.bias   trained -> frozen       idle: subtracted again by 3
6.bias   trained -> frozen       idle: subtracted again by 6_norm

left as it is  what          why
-------------  ------------  ---------------------------------------------------
8              float Linear  last: it feeds the output
7              ReLU          feeds 8 (float input), not a quantized input
"""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "vgg": (lambda: vgg(norm=False), (4, 1, 16, 16)),
    "resnet": (ResNet, (4, 1, 16, 16)),
    "functional resnet": (lambda: ResNet(FunctionalBlock), (4, 1, 16, 16)),
    "mobilenet": (MobileNet, (4, 3, 16, 16)),
    "lenet": (Lenet, (4, 1, 16, 16)),
    "two heads": (TwoHeads, (4, 12)),
    "mlp": (mlp, (4, 12)),
}


def state(model: nn.Module) -> dict[str, object]:
    """Everything about a model that a conversion could change."""
    found: dict[str, object] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found[name] = (module, type(module), module.training, list(module._modules))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found[f"{name} parameter"] = (id(parameter), parameter.requires_grad, parameter._version)
    for name, buffer in model.named_buffers():
        found[f"{name} buffer"] = (id(buffer), buffer._version)
    return found


def values(result: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result.values())


@pytest.mark.parametrize("name", NETS)
def test_a_dry_run_lists_the_same_and_changes_nothing(name: str) -> None:
    model = NETS[name][0]()
    before = state(model)
    dry = convert(model, dry_run=True)
    assert state(model) == before
    plan = convert(model)
    assert (dry.changes, dry.kept) == (plan.changes, plan.kept)
    assert "(dry run: nothing was changed)" in str(dry)
    assert (dry.dry_run, plan.dry_run) == (True, False)
    assert state(model) != before


@pytest.mark.parametrize("name", NETS)
def test_undo_restores_every_object_and_bit(name: str) -> None:
    make, shape = NETS[name]
    model, x = make().eval(), torch.randn(shape)
    before, expected = state(model), values(model(x))
    plan = convert(model, last="binary")
    assert plan.model is model
    assert plan.undo() is model
    assert state(model) == before
    assert all(map(torch.equal, values(model(x)), expected))
    assert "(undone)" in str(plan)
    # Once back, it can be converted again, to the same.
    assert convert(model, last="binary").changes == plan.changes


@pytest.mark.parametrize("name", NETS)
def test_undo_keeps_the_weights_of_now(name: str) -> None:
    make, shape = NETS[name]
    model, twin = make(), make()
    plan = convert(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sum(value.pow(2).sum() for value in values(model(torch.randn(shape)))).backward()
    optimizer.step()
    model.eval().double()
    trained = {key: value.clone() for key, value in model.state_dict().items()}
    plan.undo()
    assert list(model.state_dict()) == list(twin.state_dict())
    assert all(torch.equal(trained[key], value) for key, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    twin.double().load_state_dict(model.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    assert all(map(torch.equal, values(model(x)), values(twin.eval()(x))))


def test_undo_hands_over_new_parameters_and_hooks() -> None:
    model = mlp()
    old = model[2]
    plan = convert(model)
    heard: list[int] = []
    model[2].weight = nn.Parameter(torch.ones(16, 16))
    model[2].register_forward_hook(lambda *_: heard.append(1))
    plan.undo()
    assert model[2] is old
    assert bool((old.weight == 1).all())
    assert type(old) is nn.Linear
    assert set(vars(old)) == set(vars(nn.Linear(2, 2)))
    model(torch.randn(2, 12))
    assert heard == [1]


def test_undo_twice_or_of_a_dry_run() -> None:
    plan = convert(mlp())
    plan.undo()
    with pytest.raises(ConvertError, match="got one that was undone before; call convert again"):
        plan.undo()
    with pytest.raises(ConvertError, match="got a dry run; call convert without dry_run=True"):
        convert(mlp(), dry_run=True).undo()


def replace_layer(model: Lenet) -> None:
    model.fc1 = nn.Linear(256, 24)


def remove_norm(model: Lenet) -> None:
    del model.fc1_norm


def change_class(model: Lenet) -> None:
    model.__class__ = Lenet


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (replace_layer, "fc1 was changed since: it is now Linear"),
        (remove_norm, "the model was changed since: its inserted fc1_norm is gone"),
        (change_class, "the model was changed since: its class is now Lenet"),
    ],
)
def test_undo_of_a_model_that_was_changed_since(change, match: str) -> None:
    model = Lenet()
    plan = convert(model)
    change(model)
    before = state(model)
    with pytest.raises(ConvertError, match=match):
        plan.undo()
    assert state(model) == before


def test_undo_where_an_inserted_child_is_gone() -> None:
    model = mlp()
    plan = convert(model)
    del model._modules["2_norm"]
    with pytest.raises(ConvertError, match="2_norm was changed since: the inserted norm is gone"):
        plan.undo()


@pytest.mark.parametrize("name", NETS)
def test_the_table_fits_80_columns_and_names_everything(name: str) -> None:
    plan = convert(NETS[name][0](), last="weights")
    text = str(plan)
    assert max(map(len, text.splitlines())) <= 80
    squeezed = "".join(text.split())
    for change in plan.changes + plan.kept:
        assert "".join(change.name.split())[:28] in squeezed
    assert text == text.rstrip()
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_text_of_a_plan() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip
    assert str(convert(model, first="weights")) + "\n" == TEXT


def test_a_plan_as_json() -> None:
    plan = convert(mlp(), skip="4")
    found = json.loads(json.dumps(plan.to_dict()))
    assert (found["model"], found["dry_run"], found["undone"]) == ("Sequential", False, False)
    assert [Change(**row) for row in found["changes"]] == list(plan.changes)
    assert [Change(**row) for row in found["kept"]] == list(plan.kept)
    plan.undo()
    assert plan.to_dict()["undone"] is True
    assert repr(plan) == f"<Plan of Sequential: {len(plan.changes)} changes>"


def test_a_change_is_frozen() -> None:
    change = convert(mlp()).changes[0]
    assert change == Change("2", "Linear", "1-bit weights, 1-bit inputs", "neither first nor last")
    with pytest.raises(AttributeError, match="cannot assign to field 'why'"):
        change.why = "because"  # type: ignore[misc]
    assert Plan.__final__  # type: ignore[attr-defined]
