"""The fused steps seen from torch: which tensors they take, in which order, and what they leave."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coarsegrad.optim import BAMSProd, fused

pytestmark = pytest.mark.skipif(not fused.available(), reason="the native module is not built")

GROUP: dict[str, Any] = {
    "lr": 1e-2, "betas": (0.9, 0.999), "beta1_decay": "constant", "beta1_lambda": 1.0, "eps": 1e-8,
    "gamma": None, "weight_decay": 0.0, "box": (-1.0, 1.0), "kappa": 1.0, "rho_min": 0.1,
    "cstar": "relative", "c": 1.0, "L_inf": 1.0, "D_inf": 2.0, "alpha": None, "reduce": "mean",
    "vhat": "max", "lr_decay": None, "bias_correction": True, "space": "v", "per": "tensor",
    "maximize": False,
}  # fmt: skip
BOUND_GROUP: dict[str, Any] = {
    "lr": 1e-2, "base_lr": 1e-2, "final_lr": 0.1, "betas": (0.9, 0.999), "gamma": 1e-3, "eps": 1e-8,
    "weight_decay": 0.0, "box": None, "bias_correction": True, "maximize": False,
}  # fmt: skip
BOP_GROUP: dict[str, Any] = {
    "lr": 1.0, "gamma": 0.1, "sigma": 0.1, "threshold": 1e-3, "maximize": False,
}  # fmt: skip


class Stepper:
    """Parameters with the state that BAMSProd keeps, stepped by ``fused.bamsprod``."""

    def __init__(self, params: list[Tensor], **options: Any) -> None:
        self.params, self.group = params, GROUP | options
        self.m, self.v, self.vhat = ([torch.zeros_like(p) for p in params] for _ in range(3))
        self.steps = [torch.tensor(0.0) for _ in params]
        channel = self.group["per"] == "channel"
        sizes = [len(p) if channel and p.dim() > 1 else 1 for p in params]
        self.bounds = [
            torch.tensor([0, 0, 0, math.inf], dtype=torch.float64).view(4, 1).repeat(1, k)
            for k in sizes
        ]
        self.records = [torch.full((6 + 2 * k,), math.nan, dtype=torch.float64) for k in sizes]

    def columns(self) -> list[list[Tensor]]:
        return [self.steps, self.m, self.v, self.vhat, self.bounds, self.records]

    def step(self, grads: list[Tensor]) -> None:
        fused.bamsprod(self.group, self.params, grads, *self.columns())

    def tensors(self) -> list[Tensor]:
        return [t for column in (self.params, *self.columns()) for t in column]


SHAPES = [(6, 5, 3, 3), (40, 700), (33,), (), (2, 3, 2, 2, 2), (0, 4)]


def tensors(seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(s, generator=generator) - 0.5) * scale for s in SHAPES]


@pytest.mark.parametrize("options", [{}, {"cstar": "constant", "c": 1e-2}, {"alpha": 0.3}], ids=str)
def test_equals_the_eager_step(options: dict[str, Any]) -> None:
    fast = Stepper([p[...] for p in tensors(0)], **options)
    slow = [nn.Parameter(p) for p in tensors(0)]
    eager = BAMSProd(slow, lr=1e-2, **options)
    for t in range(5):
        grads = tensors(t + 1, 3.0)
        for p, g in zip(slow, grads, strict=True):
            p.grad = g
        eager.step()
        fast.step(grads)
    for p, q in zip(fast.params, slow, strict=True):
        torch.testing.assert_close(p, q.data, rtol=1e-5, atol=1e-6)


def test_channels_last_parameters_are_stepped_in_their_own_order() -> None:
    formats = [torch.channels_last, None, None, None, torch.channels_last_3d, None]

    def laid_out(all_: list[Tensor]) -> list[Tensor]:
        return [
            t.clone() if f is None else t.clone(memory_format=f)
            for t, f in zip(all_, formats, strict=True)
        ]

    plain, last = Stepper(tensors(0), per="channel"), Stepper(laid_out(tensors(0)), per="channel")
    mixed = Stepper(laid_out(tensors(0)), per="channel")
    for t in range(3):
        grads = tensors(t + 1)
        plain.step(grads)
        last.step(laid_out(grads))
        mixed.step(grads)  # gradients in another order than their parameters
        assert all(torch.equal(g, h) for g, h in zip(grads, tensors(t + 1), strict=True))
    for p, q, r in zip(plain.params, last.params, mixed.params, strict=True):
        torch.testing.assert_close(p, q)
        assert torch.equal(q, r)
    for b, c in zip(plain.bounds, last.bounds, strict=True):
        torch.testing.assert_close(b, c, rtol=1e-6, atol=0)


def test_every_changed_tensor_counts_a_version_up() -> None:
    stepper = Stepper(tensors(0))
    grads = tensors(1)
    before = [t._version for t in stepper.tensors()]
    stepper.step(grads)
    assert [t._version for t in stepper.tensors()] == [v + 1 for v in before]
    assert [g._version for g in grads] == [g._version for g in tensors(1)]


def test_backward_through_a_stepped_weight_is_refused() -> None:
    w = nn.Parameter(torch.rand(4, 4))
    x = torch.rand(4, requires_grad=True)
    loss = (w @ x).square().sum()
    Stepper([w]).step([torch.ones(4, 4)])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


QUALIFYING: list[tuple[str, bool, Tensor, Tensor, Tensor | None]] = [
    ("plain", True, torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3, 4)),
    ("no state", True, torch.zeros(3, 4), torch.zeros(3, 4), None),
    ("grad of other strides", True, torch.zeros(3, 4), torch.zeros(4, 3).T, torch.zeros(3, 4)),
    ("transposed parameter", False, torch.zeros(4, 3).T, torch.zeros(3, 4), torch.zeros(3, 4)),
    ("expanded parameter", False, torch.zeros(1).expand(3), torch.zeros(3), torch.zeros(3)),
    ("state of other strides", False, torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(4, 3).T),
    ("double", False, *(torch.zeros(3, dtype=torch.float64),) * 3),
    ("half gradient", False, torch.zeros(3), torch.zeros(3, dtype=torch.half), torch.zeros(3)),
    ("half state", False, torch.zeros(3), torch.zeros(3), torch.zeros(3, dtype=torch.half)),
    ("sparse gradient", False, torch.zeros(3), torch.zeros(3).to_sparse(), torch.zeros(3)),
    ("meta", False, *(torch.zeros(3, device="meta"),) * 3),
]


@pytest.mark.parametrize("row", QUALIFYING, ids=[row[0] for row in QUALIFYING])
def test_what_qualifies(row: tuple[str, bool, Tensor, Tensor, Tensor | None]) -> None:
    _, wanted, parameter, grad, state = row
    assert fused.qualifies(parameter, grad, state) is wanted
    assert fused.qualifies(nn.Parameter(parameter), grad, state) is wanted


def test_a_subclass_does_not_qualify() -> None:
    class Odd(Tensor):
        pass

    plain = torch.zeros(3)
    assert not fused.qualifies(torch.zeros(3).as_subclass(Odd), plain, plain)


NUMBERS = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-30, -3e38, 1e20, 0.3]


def pairs() -> tuple[Tensor, Tensor]:
    numbers = torch.tensor(NUMBERS)
    a, b = torch.meshgrid(numbers, numbers, indexing="ij")
    return a.reshape(1, -1).contiguous(), b.reshape(1, -1).contiguous()


def eager_bamsprod(w: Tensor, g: Tensor, box: tuple[float, float], eps: float) -> Tensor:
    """Return the weights after one step of AMSGrad in a box by torch's own operators."""
    m = torch.zeros_like(w).lerp_(g, 0.1)
    v = torch.zeros_like(w).mul_(0.999).addcmul_(g, g, value=1 - 0.999)
    vhat = torch.maximum(torch.zeros_like(w), v)
    eta = 1e-2 * math.sqrt(1 - 0.999) / (1 - 0.9)
    return w.clone().addcdiv_(m, vhat.sqrt().clamp_(min=eps), value=-eta).clamp_(*box)


@pytest.mark.parametrize("box", [(-1.0, 1.0), (-math.inf, math.inf)])
def test_nan_and_inf_pass_as_in_torch(box: tuple[float, float]) -> None:
    w, g = pairs()
    wanted = eager_bamsprod(w, g, box, 1e-8)
    stepper = Stepper([w.clone()], box=box)
    stepper.step([g])
    torch.testing.assert_close(stepper.params[0], wanted, rtol=1e-5, atol=0, equal_nan=True)


def test_a_nan_stays_in_every_state_that_it_reached() -> None:
    for name in ("m", "v", "vhat"):
        stepper = Stepper([torch.ones(1, 20)])
        stepper.step([torch.ones(1, 20)])
        getattr(stepper, name)[0][0, 3] = math.nan
        stepper.step([torch.ones(1, 20)])
        stayed = getattr(stepper, name)[0].isnan() & stepper.params[0].isnan()
        assert stayed.nonzero().tolist() == [[0, 3]], name


def test_nan_and_inf_pass_as_in_torch_bound_and_bop() -> None:
    w, g = pairs()
    m, v = torch.zeros_like(w).lerp_(g, 0.1), torch.zeros_like(w).addcmul_(g, g, value=1 - 0.999)
    rate = 1e-2 * math.sqrt(1 - 0.999) / (1 - 0.9)
    clipped = (rate / v.sqrt().add_(1e-8)).clamp_(0.1 * (1 - 1 / 1.001), 0.1 * (1 + 1 / 0.001))
    p, zeros = w.clone(), [torch.zeros_like(w) for _ in range(3)]
    fused.bound(BOUND_GROUP, [p], [g], [torch.tensor(0.0)], *([z] for z in zeros))
    torch.testing.assert_close(p, w - clipped * m, rtol=1e-5, atol=0, equal_nan=True)

    p, state = w.clone(), torch.zeros_like(w)
    fused.bop(BOP_GROUP, [p], [g], [torch.tensor(0.0)], [state])
    torch.testing.assert_close(state, m, rtol=1e-5, atol=0, equal_nan=True)
    wanted = torch.where(w * state > 1e-3, -w, w)
    torch.testing.assert_close(p, wanted, rtol=0, atol=0, equal_nan=True)


def test_threads_of_torch_do_not_change_the_result() -> None:
    def run(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            stepper = Stepper([torch.rand(64, 3000, generator=torch.Generator().manual_seed(3))])
            stepper.step([torch.rand(64, 3000, generator=torch.Generator().manual_seed(4))])
        finally:
            torch.set_num_threads(before)
        return stepper.tensors()

    for one, two in zip(run(1), run(3), strict=True):
        assert torch.equal(one.nan_to_num(), two.nan_to_num())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    stepper, grads = Stepper([torch.rand(64, 3000)]), [torch.rand(64, 3000)]
    torch.set_num_threads(2)
    stepper.step(grads)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # the parent's pool would wait for ever for threads that are not here
        stepper.step(grads)
        os._exit(0 if stepper.steps[0].item() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_without_the_native_module_the_step_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_native", None)
    assert not fused.available()
    with pytest.raises(RuntimeError, match="has no native module; pass fused=False"):
        Stepper(tensors(0)).step(tensors(1))
