from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coarsegrad.data import Images
from coarsegrad.models import mlp, small_cnn
from coarsegrad.nn import Linear, binarize_latents_
from coarsegrad.quantizers import Sign
from coarsegrad.train.ema import LatentEMA, averaged, latents, statistics_batches


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def everything(net: nn.Module) -> list[Tensor]:
    return [*net.state_dict().values(), torch.get_rng_state()]


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_it_is_the_bias_corrected_average(decay: float) -> None:
    net = mlp(width=8)
    ema = LatentEMA(net, decay)
    total, last = dict.fromkeys(ema.values, 0.0), torch.empty(0)
    for t in range(1, 31):
        for name, w in latents(net).items():
            w.data.normal_(generator=torch.Generator().manual_seed(t))
            total[name] = decay * total[name] + (1 - decay) * w.detach().double()
        ema.update(net)
        last = next(iter(ema.values.values())).clone()
        if t == 1:
            assert torch.equal(last, net[1].weight)
    for name, value in ema.values.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), total[name] / (1 - decay**30), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)]
)
def test_precision(dtype: torch.dtype, kept: torch.dtype) -> None:
    net = mlp(width=8).to(dtype)
    ema = LatentEMA(net, 0.9)
    ema.update(net)
    assert {value.dtype for value in ema.values.values()} == {kept}
    assert averaged(net, ema.values, [images(4).to(dtype)])[1].weight.dtype == dtype


def test_a_shared_latent_counts_once() -> None:
    net = nn.Sequential(*(Linear(3, 3, weight_quantizer=Sign()) for _ in range(2)))
    net[1].weight = net[0].weight
    ema = LatentEMA(net, 0.5)
    assert list(ema.values) == ["0.weight"]
    twin = averaged(net, {"0.weight": -net[0].weight.detach()}, [])
    assert twin[1].weight is twin[0].weight
    assert torch.equal(twin[0].weight, -net[0].weight)


def test_a_state_goes_on_with_the_same_bits() -> None:
    net = mlp(width=8)
    whole, first = LatentEMA(net, 0.9), LatentEMA(net, 0.9)
    for t in range(20):
        net[3].weight.data.add_(0.01 * t).sin_()
        whole.update(net)
        first.update(net)
        if t == 7:
            state = first.state_dict()
            first = LatentEMA(net, 0.9)
            first.load_state_dict(state)
    assert first.steps == whole.steps == 20
    for name, value in whole.values.items():
        assert torch.equal(first.values[name], value)


def test_the_model_stays_as_it_is() -> None:
    net = nn.Sequential(*mlp(width=8), nn.Dropout()).train()
    net[2].eval()
    net(images(8)).sum().backward()
    modes = [module.training for module in net.modules()]
    grads = [p.grad.clone() for p in net.parameters()]
    before = [tensor.clone() for tensor in everything(net)]

    def batches() -> Iterator[Tensor]:
        for _ in range(3):
            yield torch.randn(8, 1, 28, 28)

    twin = averaged(net, {name: -w.detach() for name, w in latents(net).items()}, batches())
    assert all(map(torch.equal, everything(net), before))
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert not any(module.training for module in twin.modules())
    assert [m.momentum for m in twin if isinstance(m, nn.BatchNorm1d)] == [0.1] * 3
    assert not torch.equal(twin[2].running_mean, net[2].running_mean)
    assert torch.equal(twin[2].weight, net[2].weight)


def test_statistics_are_of_these_images_and_no_others() -> None:
    net = mlp(width=8)
    for _ in range(3):
        net(images(16, seed=9))
    values = {name: torch.randn_like(w) for name, w in latents(net).items()}
    x = images(64)
    twin = averaged(net, values, [x])
    sums = torch.nn.functional.linear(x.flatten(1), values["1.weight"].sign())
    torch.testing.assert_close(twin[2].running_mean, sums.mean(0))
    torch.testing.assert_close(twin[2].running_var, sums.var(0))
    twin = averaged(net, values, x.split(16))
    torch.testing.assert_close(twin[2].running_mean, sums.mean(0))
    parts = torch.stack([part.var(0) for part in sums.split(16)])
    torch.testing.assert_close(twin[2].running_var, parts.mean(0))
    again = averaged(net, values, x.split(16))
    assert all(map(torch.equal, twin.state_dict().values(), again.state_dict().values()))


def test_flipped_weights_vote_and_a_tie_keeps_them() -> None:
    layer = Linear(3, 2, weight_quantizer=Sign(scale="channel"))
    binarize_latents_(layer)
    layer.weight.data.copy_(torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]]))
    votes = torch.tensor([[0.0, 0.0, -0.2], [0.3, -0.9, 0.01]])
    twin = averaged(layer, {"weight": votes}, [])
    assert twin.weight.tolist() == [[1, -1, -1], [1, -1, 1]]


def test_an_average_of_zero_keeps_a_latent_weight() -> None:
    layer = Linear(2, 1, weight_quantizer=Sign())
    layer.weight.data.copy_(torch.tensor([[-0.5, 0.25]]))
    twin = averaged(layer, {"weight": torch.tensor([[0.0, -0.125]])}, [])
    assert twin.weight.tolist() == [[-0.5, -0.125]]


def test_layout_is_kept() -> None:
    net = small_cnn().to(memory_format=torch.channels_last)
    ema = LatentEMA(net, 0.9)
    ema.update(net)
    twin = averaged(net, ema.values, [images(4)])
    assert twin[3].weight.stride() == net[3].weight.stride()
    assert torch.equal(twin[3].weight, net[3].weight)


def test_refusals() -> None:
    net = mlp(width=8)
    for decay in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"needs a decay in \(0, 1\), got"):
            LatentEMA(net, decay)
    with pytest.raises(ValueError, match=r"model with latent weights, got none in Linear"):
        LatentEMA(nn.Linear(2, 2), 0.9)
    ema = LatentEMA(net, 0.9)
    with pytest.raises(ValueError, match=r"a state of decay 0.9 .* got decay 0.8"):
        ema.load_state_dict(LatentEMA(net, 0.8).state_dict())
    with pytest.raises(ValueError, match=r"\(8, 784\).*, got .*\(9, 784\)"):
        ema.load_state_dict(LatentEMA(mlp(width=9), 0.9).state_dict())
    with pytest.raises(ValueError, match=r"latent weights 1.weight, 3.weight, 5.weight, got none"):
        averaged(net, {}, [images(4)])
    with pytest.raises(ValueError, match="statistics of batch norm need at least one batch"):
        averaged(net, ema.values, [])


def test_statistics_come_from_the_whole_set_in_even_batches() -> None:
    x = np.arange(1200, dtype=np.int64)
    data = Images(
        (x // 10).astype(np.uint8).reshape(-1, 1, 1, 1), x // 120, "sorted", classes=10
    )  # fmt: skip
    sizes = [len(part) for part in statistics_batches(data, 1001, seed=3)]
    assert sizes == [334, 334, 333]
    a, b, other = (torch.cat(list(statistics_batches(data, 100, s))) for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)
    assert len(a) == 100
    assert (a.dtype, a.min() >= -1, a.max() < 0) == (torch.float32, True, True)
    assert len(((a * 128 + 128) // 12).unique()) == 10
    assert sum(map(len, statistics_batches(data, 5000, 0))) == 1200
