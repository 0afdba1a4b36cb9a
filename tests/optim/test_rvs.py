from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coarsegrad import prox
from coarsegrad.errors import ArgumentError
from coarsegrad.optim import RVS, BAMSProd, Bop, GroupSchedule, Lookahead, Split
from optim.composites import net
from optim.table import Case, give, gradients, run
from reference.rvs import Reference, hard, soft

LAM, BETA, LR = 0.002, 0.7, 0.1


def weights(shape: tuple[int, ...] = (4, 3), dtype: torch.dtype = torch.float64) -> nn.Parameter:
    (w,) = Case(BAMSProd).weights(dtype, shapes=[shape])
    return w


def sgd(*params: nn.Parameter, **options: Any) -> RVS:
    return RVS(torch.optim.SGD(params, lr=LR), **{"lam": LAM, "beta": BETA, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"penalty": "l1"},
        {"penalty": "transformed_l1", "a": 0.5},
        {"penalty": prox.l1},
        {"warmup": 6},
        {"normalize": True, "lam": 0.02},
        {"admm": True},
        {"admm": True, "penalty": "l1", "normalize": True},
        {"support": "irreversible", "every": 5},
        {"support": "irreversible", "every": 3, "penalty": "l1", "admm": True, "warmup": 4},
    ],
    ids=lambda options: re.sub(r"<function (\w+).*?>", r"\1", str(options)),
)
def test_is_the_twin_around_sgd(options: dict[str, Any]) -> None:
    w = weights()
    opt = sgd(w, **options)
    penalty, a = options.get("penalty", "l0"), options.get("a")
    maps: dict[Any, Any] = {
        "l0": hard, "l1": soft, prox.l1: soft,
        "transformed_l1": lambda x, r: prox.transformed_l1(torch.from_numpy(x), r, a).numpy(),
    }  # fmt: skip
    twin = Reference(
        w.detach().numpy().copy(), lambda w, g: w - LR * g, maps[penalty],
        options.get("lam", LAM), BETA, LR, options.get("warmup", 0),
        options.get("normalize", False), options.get("admm", False), options.get("every", 0),
    )  # fmt: skip
    zeros = set()
    for step in range(17):
        grads = [g / 10 for g in gradients([w], step)]
        give([w], grads)
        opt.step()
        twin.step(grads[0].numpy())
        np.testing.assert_allclose(w.detach().numpy(), twin.w, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(opt.u(w).numpy(), twin.u, rtol=1e-12, atol=1e-14)
        zeros.add(opt.sparsity()["total"])
        assert opt.sparsity()["total"] == (twin.u == 0).mean()
    assert len(zeros) > 1


def test_only_an_irreversible_support_reaches_the_live_weights() -> None:
    """The twin is nearly empty, and w keeps every entry."""
    w = weights((30, 40))
    opt = sgd(w, lam=1.0)
    run(opt, [w], range(1, 20))
    assert opt.sparsity()["total"] > 0.9
    with opt.at_u():
        pass
    assert bool((w != 0).all())


def test_a_support_that_is_irreversible_only_shrinks() -> None:
    w = weights((30, 40))
    opt = sgd(w, support="irreversible", every=4)
    dead = torch.zeros(30, 40, dtype=torch.bool)
    for step in range(1, 25):
        run(opt, [w], range(step, step + 1))
        assert bool((w.detach()[dead] == 0).all())
        if step % 4 == 0:
            now = w.detach() == 0
            assert bool((now | ~dead).all())
            dead = now
    assert 0 < int(dead.sum()) < dead.numel()


def test_at_u_shows_u_and_puts_w_back() -> None:
    model = net()
    opt = RVS(torch.optim.Adam(model.named_parameters()), lam=0.5, beta=1.0)
    run(opt, list(model.parameters()), range(1, 4))
    before = copy.deepcopy(model.state_dict())
    twins = {name: opt.u(p) for name, p in model.named_parameters()}
    shares = opt.sparsity()
    with opt.at_u():
        assert opt.sparsity() == shares
        for name, p in model.named_parameters():
            assert torch.equal(p, twins[name])
            assert torch.equal(opt.u(p), twins[name])
        assert any(bool((p == 0).any()) for p in model.parameters())
        with pytest.raises(RuntimeError, match="blocks do not nest"), opt.at_u():
            pass
        with pytest.raises(RuntimeError, match=re.escape("RVS.step() inside at_u()")):
            opt.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with pytest.raises(ZeroDivisionError, match="left"), opt.at_u():
        raise ZeroDivisionError("left")
    assert torch.equal(model[0].weight, before["0.weight"])
    run(opt, list(model.parameters()), range(4, 5))


def test_sparsity_counts_by_name_and_by_elements() -> None:
    big, small = weights((10, 10)), weights((2, 1))
    with torch.no_grad():
        big.fill_(0.01)
        small.fill_(1.0)
    named = [("big", big), ("small", small), ("bias", weights((5,)))]
    opt = RVS(torch.optim.SGD(named, lr=LR), lam=LAM, beta=BETA)
    assert opt.sparsity() == {"big": 1.0, "small": 0.0, "total": 100 / 102}
    assert sgd(big, small).sparsity() == {"0.0": 1.0, "0.1": 0.0, "total": 100 / 102}


def test_one_threshold_serves_all_tensors() -> None:
    """Whatever their scale: thresholds relative to a layer's size empty the wrong layers."""
    big, small = weights((10, 10)), weights((10, 10))
    with torch.no_grad():
        small.mul_(0.01)
    opt = sgd(big, small, lam=0.5 * 0.05**2 * BETA)
    assert bool((opt.u(big)[big.detach().abs() > 0.0501] != 0).all())
    assert bool((opt.u(big)[big.detach().abs() < 0.0499] == 0).all())
    assert bool((opt.u(small) == 0).all())


def names(opt: RVS) -> set[str]:
    return set(opt.sparsity()) - {"total"}


def test_what_is_pruned() -> None:
    def made(**options: Any) -> RVS:
        inner = torch.optim.SGD(net().named_parameters(), lr=LR)
        return RVS(inner, lam=LAM, beta=BETA, **options)

    matrices = {"0.weight", "2.weight", "3.weight"}
    assert names(made()) == matrices
    assert names(made(pruned=r"^[23]\.weight$")) == {"2.weight", "3.weight"}
    assert names(made(pruned=True)) == {name for name, _ in net().named_parameters()}
    model = net()
    groups = [
        {"params": model[0].named_parameters(), "rvs_pruned": False},
        {"params": model[2].named_parameters(), "rvs_lam": 10.0},
        {"params": model[3].named_parameters()},
    ]
    opt = RVS(torch.optim.SGD([{**g, "params": list(g["params"])} for g in groups], lr=LR),
              lam=0.0, beta=1.0)  # fmt: skip
    assert opt.sparsity() == {"weight": 0.0, "total": 15 / 21}


def test_what_is_not_pruned_is_the_inner_rules() -> None:
    vector, alone = weights((5,)), weights((5,))
    opt, plain = sgd(weights(), vector), torch.optim.SGD([alone], lr=LR)
    for step in range(5):
        grad = gradients([vector], step + 1)
        give([vector], grad)
        give([alone], grad)
        opt.step()
        plain.step()
    assert torch.equal(vector, alone)


def test_groups_added_later_are_pruned() -> None:
    first, second = weights(), weights()
    opt = sgd(first, warmup=3)
    run(opt, [first], range(1, 4))
    opt.add_param_group({"params": [second], "rvs_lam": 1.0})
    assert opt.param_groups[1]["rvs_beta"] == BETA
    run(opt, [first, second], range(4, 8))
    assert opt.sparsity()["1.0"] == 1.0
    with pytest.raises(ArgumentError, match=r"Invalid lam value: -1 \(must be >= 0\)"):
        opt.add_param_group({"params": [weights()], "rvs_lam": -1})


def test_the_pull_follows_the_schedule_of_lr_and_lambda_that_of_the_group() -> None:
    w = weights()
    with torch.no_grad():
        w.fill_(0.01)
    opt = sgd(w)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 0.5**t)
    both = GroupSchedule(opt, {"rvs_lam": lambda t: float(t < 2)})
    for t in range(4):
        before = w.detach().clone()
        give([w], [torch.zeros(4, 3, dtype=torch.float64)])
        opt.step()
        share = 1 - LR * 0.5**t * BETA * (t < 2)
        torch.testing.assert_close(w.detach(), before * share, rtol=1e-14, atol=0)
        schedule.step()
        both.step()


def test_is_decoupled_from_the_inner_rules_moments() -> None:
    w = weights()
    opt = RVS(torch.optim.Adam([w], lr=LR), lam=1.0, beta=BETA)
    before = w.detach().clone()
    for _ in range(3):
        give([w], [torch.zeros_like(w)])
        opt.step()
    torch.testing.assert_close(w.detach(), before * (1 - LR * BETA) ** 3)
    assert float(opt.state[w]["exp_avg"].abs().max()) == 0


def test_admm_makes_w_and_u_meet() -> None:
    """min |w - c|^2 / 2 + lam |w|_1 has the solution S_lam(c); splitting alone keeps a gap."""
    gaps = {}
    for admm in (False, True):
        w = nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))
        c = torch.tensor([[2.0, 0.5, -1.0, 0.2]], dtype=torch.float64)
        opt = sgd(w, lam=0.3, penalty="l1", admm=admm)
        for _ in range(600):
            give([w], [w.detach() - c])
            opt.step()
        gaps[admm] = float((w.detach() - opt.u(w)).abs().max())
        if admm:
            torch.testing.assert_close(opt.u(w), prox.l1(c, 0.3), rtol=0, atol=1e-9)
    assert gaps[True] < 1e-9 < 0.1 < gaps[False]


def test_a_checkpoint_of_the_inner_rule_loads() -> None:
    w, other = weights(), weights()
    inner, opt = torch.optim.SGD([w], lr=LR, momentum=0.9), sgd(other, admm=True)
    run(inner, [w], range(1, 4))
    opt.load_state_dict(inner.state_dict())
    assert opt.param_groups[0]["rvs_lam"] == LAM
    run(opt, [other], range(4, 8))
    assert {"z", "momentum_buffer"} <= opt.state[other].keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_weights_have_a_twin_of_theirs(dtype: torch.dtype) -> None:
    w = weights(dtype=dtype)
    opt = sgd(w, admm=True)
    run(opt, [w], range(1, 4))
    assert opt.u(w).dtype == dtype
    assert opt.state[w]["z"].dtype == torch.float32
    expected = prox.l0(w.detach().float() + opt.state[w]["z"] / BETA, LAM / BETA)
    assert torch.equal(opt.u(w), expected.to(dtype))


def test_a_weight_without_gradient_rests() -> None:
    moving, still = weights(), weights()
    opt = sgd(moving, still, lam=1.0, support="irreversible", every=1)
    before = still.detach().clone()
    run(opt, [moving], range(1, 3))
    assert torch.equal(still.detach(), before)
    assert not bool(moving.any())


def test_a_rate_of_zero_makes_state_and_moves_nothing() -> None:
    """A distributed checkpoint's first step; thresholding there would prune before training."""
    w = weights()
    before = w.detach().clone()
    opt = sgd(w, lam=1.0, support="irreversible", every=1, normalize=True, admm=True)
    opt.param_groups[0]["lr"] = 0.0
    run(opt, [w], range(1, 3))
    assert torch.equal(w.detach(), before)
    assert opt.state[w].keys() == {"z", "support"}
    assert not bool(opt.state[w]["z"].any())
    assert bool(opt.state[w]["support"].all())


def test_an_empty_tensor_and_a_zero_one_do_no_harm() -> None:
    empty, zero = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(2, 2))
    opt = sgd(empty, zero, normalize=True)
    for _ in range(2):
        give([empty, zero], [torch.zeros(0, 3), torch.zeros(2, 2)])
        opt.step()
    assert not bool(zero.any())
    assert opt.sparsity() == {"0.0": 0.0, "0.1": 1.0, "total": 1.0}


def test_a_function_that_can_be_imported_is_pickled() -> None:
    w = weights()
    opt = sgd(w, penalty=prox.l1)
    clone = pickle.loads(pickle.dumps(opt))
    (v,) = clone.param_groups[0]["params"]
    assert torch.equal(clone.u(v), opt.u(w))


def test_composes() -> None:
    model = net()
    real = (torch.optim.Adam, {"lr": 1e-2})
    opt = RVS(Lookahead(Split(model, binary=(Bop, {}), real=real), k=2), lam=LAM, beta=BETA,
              pruned=r"^3\.weight$")  # fmt: skip
    run(opt, list(model.parameters()), range(1, 6))
    assert names(opt) == {"3.weight"}


class _Flipping:
    def __init__(self) -> None:
        self.model = net()

    def __call__(self) -> Any:
        return Split(self.model, binary=(Bop, {}), real=(torch.optim.Adam, {}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lam": -1e-6}, r"Invalid lam value: -1e-06 \(must be >= 0\)"),
        ({"lam": float("nan")}, "Invalid lam value: nan"),
        ({"beta": -1.0}, r"Invalid beta value: -1.0 \(must be > 0\)"),
        ({"beta": 0.0}, r"Invalid beta value: 0.0 \(must be > 0\)"),
        ({"beta": 5e-324}, r"lam / beta must be finite"),
        ({"penalty": "L0"}, r"Invalid penalty value: 'L0' .*Did you mean 'l0'"),
        ({"penalty": "transformed_l1", "a": 0.0}, r"Invalid a value: 0.0 \(must be > 0\)"),
        ({"a": 1.0}, r"Invalid a value: 1.0 \(only transformed_l1 has one\)"),
        ({"warmup": -1}, r"Invalid warmup value: -1 \(must be an integer >= 0\)"),
        ({"warmup": 1.5}, r"Invalid warmup value: 1.5"),
        ({"support": "fixed"}, r"Invalid support value: 'fixed' \(must be one of free, irrev"),
        ({"support": "irreversible"}, r"Invalid every value: None with support='irreversible'"),
        ({"every": 5}, r"Invalid every value: 5 with support='free'"),
        ({"support": "irreversible", "every": 0}, r"Invalid every value: 0 \(must be an integer"),
        ({"pruned": "weight"}, r"needs named parameters for pruned='weight'"),
        ({"pruned": False}, r"needs a parameter to prune, and pruned=False takes none of 1"),
    ],
    ids=str,
)
def test_refuses(bad: dict[str, Any], message: str) -> None:
    w = weights()
    inner = torch.optim.SGD([w], lr=LR)
    keys = set(inner.param_groups[0])
    with pytest.raises(ArgumentError, match=message):
        RVS(inner, **{"lam": LAM, "beta": BETA, **bad})
    assert set(inner.param_groups[0]) == keys


def test_refuses_weights_that_flip_and_patterns_that_match_nothing() -> None:
    with pytest.raises(ArgumentError, match="Bop keeps its own at -1 and"):
        RVS(_Flipping()(), lam=LAM, beta=BETA)
    named = torch.optim.SGD(net().named_parameters(), lr=LR)
    with pytest.raises(ArgumentError, match=r"pruned='conv' takes none of 7"):
        RVS(named, lam=LAM, beta=BETA, pruned="conv")
    opt, alien = sgd(weights()), torch.zeros(1)
    with pytest.raises(KeyError, match="0"):
        opt.u(alien)


def test_u_is_a_new_tensor() -> None:
    w, vector = weights(), weights((5,))
    opt = sgd(w, vector, lam=0.0)
    for p in (w, vector):
        twin: Tensor = opt.u(p)
        assert torch.equal(twin, p)
        assert not twin.requires_grad
        assert twin.data_ptr() != p.data_ptr()
