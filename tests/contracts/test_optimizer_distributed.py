"""Two gloo ranks stay bit-identical, and distributed checkpoints restore what they saved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from optim.composites import COMPOSITES, net
from optim.table import RULES, assert_same, parameters, run

Build = Callable[[nn.Module], Optimizer]


def _binary(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.where(p >= 0, 1.0, -1.0))
    return model


BUILDS: dict[str, Build] = {
    **{
        case.rule.__name__: lambda model, case=case: case.build(
            (_binary(model) if case.flips else model).parameters()
        )
        for case in RULES
    },
    **COMPOSITES,
}


def _train(rank: int, world: int, steps: int) -> None:
    """One rank: step every optimizer on data of its own, then compare with the other ranks."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    for name, build in BUILDS.items():
        model = net()
        opt = build(model)
        parallel = nn.parallel.DistributedDataParallel(model)
        generator = torch.Generator().manual_seed(rank)
        for _ in range(steps):
            opt.zero_grad()
            x = torch.randn(8, 4, generator=generator)
            parallel(x).square().sum().backward()
            opt.step()
        tensors = [p.detach() for p in parameters(opt)]
        tensors += [v for p in parameters(opt) for _, v in sorted(opt.state[p].items())]
        flat = torch.cat([t.double().reshape(-1) for t in tensors])
        everyone = [torch.empty_like(flat) for _ in range(world)]
        dist.all_gather(everyone, flat)
        for other in everyone:
            assert torch.equal(other, flat), name
        start = build(net())
        moved = any(
            not torch.equal(a, b) for a, b in zip(parameters(opt), parameters(start), strict=True)
        )
        assert moved, name
    dist.barrier()
    # Torch 2.13 may deadlock in taking the group down: its destructor joins, with the GIL held, a
    # thread that wants the GIL to drop the gathered tensors.
    os._exit(0)


def test_two_ranks_stay_identical(tmp_path: Path) -> None:
    code = "import sys; from contracts.test_optimizer_distributed import _train; " \
        "_train(int(sys.argv[1]), 2, 20)"  # fmt: skip
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "PYTHONPATH": os.pathsep.join(
            [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[1])]
        ),
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank)], env=environment, stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            _, error = rank.communicate(timeout=300)
            assert rank.returncode == 0, error.decode()[-2000:]
    finally:
        for rank in ranks:
            rank.kill()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# torch 2.13's DDP and checkpoints warn about themselves.
dcp = pytest.mark.filterwarnings("ignore::FutureWarning")


@dcp
@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("name", BUILDS)
def test_distributed_checkpoint_restores_a_fresh_optimizer(name: str) -> None:
    build = BUILDS[name]
    model, fresh = net(), net()
    opt, other = build(model), build(fresh)
    run(opt, parameters(opt), range(5))
    saved: dict[str, Any] = get_optimizer_state_dict(model, opt)
    with torch.no_grad():
        for p, q in zip(fresh.parameters(), model.parameters(), strict=True):
            p.copy_(q)
    before = [p.detach().clone() for p in fresh.parameters()]
    set_optimizer_state_dict(fresh, other, saved)
    assert all(torch.equal(p, q) for p, q in zip(fresh.parameters(), before, strict=True))
    assert_same(opt, other)
    run(opt, parameters(opt), range(5, 10))
    run(other, parameters(other), range(5, 10))
    assert_same(opt, other)


@dcp
@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("name", BUILDS)
def test_its_first_step_without_gradients_changes_no_weight(name: str) -> None:
    """Asked for the state of an optimizer that has none, torch steps it with lr = 0, grad = 0."""
    model, untouched = net(), net()
    opt, plain = BUILDS[name](model), BUILDS[name](untouched)
    get_optimizer_state_dict(model, opt)
    for p, q in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.grad is None
    assert opt.state
    assert [g["lr"] for g in opt.param_groups] == [g["lr"] for g in plain.param_groups]
    bounds = [state["bounds"] for state in opt.state.values() if "bounds" in state]
    assert all(b[:3].eq(0).all() and b[3].isinf().all() for b in bounds)
    run(opt, parameters(opt), range(1, 12))
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
