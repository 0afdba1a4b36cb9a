"""The smoothness along one step: against closed forms, and with nothing left behind."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coarsegrad.errors import DivergenceError
from coarsegrad.models import float_twin, mlp
from coarsegrad.theory import hyperbolic, smoothness_along
from coarsegrad.train import LocalSmoothness, local_smoothness


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model: nn.Module, length: float = 1e-2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: p.detach() + length * torch.randn(p.shape, generator=generator)
        for name, p in model.named_parameters()
    }


class Point(nn.Module):
    def __init__(self, x: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([x], dtype=torch.float64))


def test_a_known_function() -> None:
    """The same numbers as of the curve itself, and the Hessian of one coordinate is f''."""
    f = hyperbolic(3.0, 0.5)
    before, after = {"x": torch.tensor([4.0])}, {"x": torch.tensor([3.5])}
    found = local_smoothness(
        Point(0.0), lambda m: 12 * (torch.cosh(m.x / 2) - 1).sum(), before, after, hessian=2
    )
    assert found.smoothness == pytest.approx(smoothness_along([f], [4.0], [3.5]), rel=1e-12)
    assert found.gradient == pytest.approx(f.slope(4.0))
    assert found.hessian == pytest.approx(f.curvature(4.0))
    assert (found.loss, found.step) == (pytest.approx(f.value(4.0)), 0.5)


@pytest.mark.parametrize("points", [1, 3, 5])
def test_the_points_on_the_way(points: int) -> None:
    """Of x^4 from 0 the gradient is largest at the last point, n / (n + 1)."""
    found = local_smoothness(
        Point(0.0), lambda m: (m.x**4).sum(), {"x": torch.zeros(1)}, {"x": torch.ones(1)},
        points=points,
    )  # fmt: skip
    assert found.smoothness == pytest.approx(4 * (points / (points + 1)) ** 2)


def quadratic(matrix: Tensor) -> Callable[[nn.Module], Tensor]:
    def loss(model: nn.Module) -> Tensor:
        w = torch.cat([p.flatten() for p in model.parameters()])
        return (w @ (matrix.to(w.dtype) @ w)) / 2

    return loss


def test_a_quadratic_over_several_parameters() -> None:
    """Along s it is |A s| / |s|, and the Hessian's norm is that of A."""
    model = nn.Linear(3, 2)
    matrix = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = matrix + matrix.T
    before, after = weights(model), moved(model)
    s = torch.cat([(after[n] - before[n]).double().flatten() for n in before])
    found = local_smoothness(
        model, quadratic(matrix), before, after, hessian=300, dtype=torch.float64
    )
    assert found.smoothness == pytest.approx(float((matrix @ s).norm() / s.norm()), rel=1e-6)
    assert found.hessian == pytest.approx(
        float(torch.linalg.eigvalsh(matrix).abs().max()), rel=1e-4
    )
    part = local_smoothness(
        model, quadratic(matrix), {"bias": before["bias"]}, {"bias": after["bias"]}, hessian=300,
        dtype=torch.float64,
    )  # fmt: skip
    block = matrix[6:, 6:]
    assert part.hessian == pytest.approx(float(torch.linalg.eigvalsh(block).abs().max()), rel=1e-4)


def noisy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 3)
    )


X = torch.randn(16, 5, generator=torch.Generator().manual_seed(2))
Y = torch.arange(16) % 3


def entropy(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X.to(next(model.parameters()).dtype)), Y)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_nothing_is_left_behind(training: bool, dtype: torch.dtype | None) -> None:
    model = noisy().train(training)
    entropy(model).backward()
    before = copy.deepcopy(model.state_dict())
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    old = torch.get_rng_state()
    for running in (True, False):
        local_smoothness(
            model, entropy, weights(model), moved(model), hessian=2, dtype=dtype,
            running_statistics=running,
        )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), old)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, grads[name])  # type: ignore[arg-type]
    assert all(module.training == training for module in model.modules())


def test_batch_norms_use_the_batch_and_dropout_is_off() -> None:
    model = noisy()
    with torch.no_grad():
        model[0].bias.fill_(2.0)  # far from the running mean, which is 0
    batch, running = (
        local_smoothness(model, entropy, weights(model), moved(model), running_statistics=value)
        for value in (False, True)
    )
    model.eval()
    assert running.loss == pytest.approx(entropy(model).item(), rel=1e-6)
    model.train()[3].eval()
    assert batch.loss == pytest.approx(entropy(model).item(), rel=1e-6)
    assert batch.loss != pytest.approx(running.loss, rel=1e-3)


def test_every_gradient_sees_the_same_random_numbers() -> None:
    """Noise in the loss that differed between the gradients would be divided by a short step."""
    model = nn.Linear(5, 3)

    def loss(m: nn.Module) -> Tensor:
        x = X.to(m.weight.dtype)  # type: ignore[union-attr]
        return F.cross_entropy(m(x + torch.randn_like(x)), Y)

    found = local_smoothness(
        model, loss, weights(model), moved(model, 1e-6), dtype=torch.float64
    )  # fmt: skip
    assert found.smoothness is not None
    assert found.smoothness < 10


def test_steps_that_are_too_short_are_not_measured() -> None:
    model = nn.Linear(5, 3)
    short = moved(model, 1e-7)
    assert local_smoothness(model, entropy, weights(model), short).smoothness is None
    exact = local_smoothness(model, entropy, weights(model), short, dtype=torch.float64)
    assert exact.smoothness is not None
    long = local_smoothness(model, entropy, weights(model), moved(model, 1e-3))
    assert exact.smoothness == pytest.approx(long.smoothness, rel=0.05)
    none = local_smoothness(model, entropy, weights(model), weights(model), dtype=torch.float64)
    assert (none.smoothness, none.step) == (None, 0)


def test_coarse_gradients_jump_where_signs_flip() -> None:
    """The same flips on a tenth of the way: the quotient is ten times as large."""
    net = mlp(width=4)
    x = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def loss(model: nn.Module) -> Tensor:
        return F.cross_entropy(model(x.double()), torch.arange(8))

    at = torch.full((4, 784), 0.5)
    at[0] = 1e-9
    found = []
    for length in (1e-3, 1e-4):
        after = at.clone()
        after[0] -= length
        pair = {"1.weight": at}, {"1.weight": after}
        found.append(local_smoothness(net, loss, *pair, dtype=torch.float64))
    assert isinstance(found[0], LocalSmoothness)
    assert found[0].smoothness is not None
    assert found[1].smoothness == pytest.approx(10 * found[0].smoothness, rel=1e-3)


def test_no_hessian_of_a_quantized_network() -> None:
    net = mlp(width=4)
    with pytest.raises(ValueError, match=r"hessian=0 for a quantized network, .* float twin"):
        local_smoothness(net, entropy, weights(net), moved(net), hessian=3)
    twin = float_twin(net)
    x = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = local_smoothness(
        twin, lambda m: F.cross_entropy(m(x), torch.arange(8)), weights(twin), moved(twin),
        hessian=3,
    )  # fmt: skip
    assert found.hessian is not None
    assert found.hessian > 0


def test_a_loss_without_curvature_or_without_some_parameters() -> None:
    model = nn.Linear(5, 3)
    flat = local_smoothness(model, lambda m: m.bias.sum(), weights(model), moved(model), hessian=3)  # type: ignore[union-attr, operator]
    assert (flat.smoothness, flat.hessian) == (0, 0)
    assert flat.gradient == pytest.approx(math.sqrt(3))


def test_divergence() -> None:
    model = nn.Linear(5, 3)
    for bad in (math.nan, math.inf):
        after = {**weights(model), "bias": torch.full((3,), bad)}
        with pytest.raises(DivergenceError, match=r"local_smoothness diverged: the loss is nan"):
            local_smoothness(model, entropy, after, weights(model))


@pytest.mark.parametrize(("change", "message"), [
    ({"before": {}}, "before to name parameters of the model"),
    ({"after": {"weight": torch.zeros(3, 5)}}, r"the same in before and after, got \['weight'\]"),
    ({"before": {"weigth": torch.zeros(3, 5)}}, r"got \['weigth'\]; take dict"),
    ({"after": {"weight": torch.zeros(2, 5), "bias": torch.zeros(3)}}, r"got \['weight'\]"),
    ({"points": 0}, "points of 1 or more and hessian of 0 or more, got 0 and 0"),
    ({"hessian": -1}, "got 5 and -1"),
])  # fmt: skip
def test_bad_input(change: dict[str, object], message: str) -> None:
    model = nn.Linear(5, 3)
    options = {"before": weights(model), "after": moved(model), **change}
    with pytest.raises(ValueError, match=message):
        local_smoothness(model, entropy, **options)  # type: ignore[arg-type]
