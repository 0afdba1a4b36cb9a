"""Laws of convert on random chains."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from coarsegrad.nn import Conv2d, Linear, convert

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Random layers, some with norms, activations and pools in any order; nested at random."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layers: list[nn.Module] = []
    channels = draw(st.integers(1, 3))
    first = channels

    def extras(norm: nn.Module, pools: list[nn.Module]) -> list[nn.Module]:
        found = [make() for make in draw(st.lists(st.sampled_from(ACTIVATIONS), max_size=2))]
        found += [norm] if draw(st.booleans()) else []
        found += [pool for pool in pools if draw(st.booleans())]
        return draw(st.permutations(found))

    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in (1, channels) if channels % g == 0]))
        out = groups * draw(st.integers(1, 3))
        layers.append(nn.Conv2d(channels, out, 3, padding=1, groups=groups,
                                bias=draw(st.booleans())))  # fmt: skip
        layers += extras(nn.BatchNorm2d(out), [nn.Dropout2d(0.1), nn.MaxPool2d(3, 1, 1)])
        channels = out
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    features = 4 * channels
    for _ in range(draw(st.integers(1, 3))):
        out = draw(st.integers(1, 5))
        layers.append(nn.Linear(features, out, bias=draw(st.booleans())))
        layers += extras(nn.BatchNorm1d(out), [nn.Dropout(0.1)])
        features = out
    cut = draw(st.integers(0, len(layers)))
    chain = nn.Sequential(nn.Sequential(*layers[:cut]), nn.Sequential(*layers[cut:]))
    chain.channels = first
    return chain if draw(st.booleans()) else nn.Sequential(chain)


def flat(model: nn.Module) -> list[nn.Module]:
    """Return the modules of a nested chain in order of execution."""
    if not isinstance(model, nn.Sequential):
        return [model]
    return [leaf for child in model._modules.values() for leaf in flat(child)]


@pytest.mark.parametrize("ends", ["float", "weights", "binary"])
@settings(max_examples=40, deadline=None)
@given(model=chains())
def test_laws(ends: str, model: nn.Sequential) -> None:
    channels = flat(model)[0].in_channels
    x = torch.randn(4, channels, 6, 6)
    keys, before, expected = list(model.state_dict()), flat(model), model.eval()(x)
    layers = [m for m in before if isinstance(m, (nn.Conv2d, nn.Linear))]
    if ends == "float" and len(layers) < 3:
        return
    plan = convert(model, first=ends, last=ends)  # type: ignore[arg-type]
    after = flat(model)
    assert [key for key in model.state_dict() if key in keys] == keys
    for index, module in enumerate(after):
        if isinstance(module, (Conv2d, Linear)):
            rest = [m for m in after[index + 1 :] if not passes(m)]
            assert isinstance(rest[0], NORMS)
            assert module.bias is None or not module.bias.requires_grad or dropped(after, index)
            back = [m for m in reversed(after[:index]) if not passes(m)]
            if module.input_quantizer is not None and back:
                assert not isinstance(back[0], ACTIVATIONS)
    for parameter in model.parameters():
        assert bool(parameter.isfinite().all())
    model.train()(x).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    for module in flat(model):
        if isinstance(module, NORMS):
            module.reset_running_stats()
    plan.undo()
    assert list(map(id, flat(model))) == list(map(id, before))
    assert list(model.state_dict()) == keys
    assert torch.equal(model.eval()(x), expected)


def passes(module: nn.Module) -> bool:
    kinds = (nn.Identity, nn.MaxPool2d, nn.Dropout, nn.Dropout2d, nn.AdaptiveAvgPool2d, nn.Flatten)
    return isinstance(module, kinds)


def dropped(after: list[nn.Module], index: int) -> bool:
    """Whether a dropout stands between a layer and its norm: it scales the bias at random."""
    for module in after[index + 1 :]:
        if isinstance(module, NORMS):
            return False
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            return True
    return False
