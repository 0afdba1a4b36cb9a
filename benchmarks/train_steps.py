"""The speed table of training steps, with pass or short per row: `make bench-train`.

A step is forward, cross entropy, backward and SGD with momentum on one batch. A quantized network
and its float twin take turns in one process on one thread; a figure is the median over rounds of
ratios within a round. Brevitas has a process of its own, in a virtual environment of its own
(`--brevitas PYTHON`, made by `make bench-train-peer`), which steps while this one waits, in turns
too.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from coarsegrad import bench, models

Step = Callable[[], Any]
Row = tuple[str, float, float, float]  # what, ratio, must, stretch
EAGER, COMPILED = (1.5, 1.15), (1.15, 1.05)
PEER = Path(__file__).parent / "peers" / "brevitas_steps.py"
# name -> network, batch, shape of an image
NETS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int, int]]] = {
    "lenet5 W1A1": (lambda: models.lenet5(precision="W1A1"), 64, (1, 28, 28)),
    "lenet5 W4A4": (lambda: models.lenet5(precision="W4A4"), 64, (1, 28, 28)),
    "resnet20 W1A1": (lambda: models.resnet20(precision="W1A1"), 32, (3, 32, 32)),
    "resnet20 W4A4": (lambda: models.resnet20(precision="W4A4"), 32, (3, 32, 32)),
}


def step_of(net: nn.Module, batch: int, shape: tuple[int, int, int], *, compiled: bool) -> Step:
    """Return one training step of a network on random images."""
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch, *shape).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    forward = torch.compile(net) if compiled else net

    def step() -> None:
        F.cross_entropy(forward(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ratios(first: Step, second: Step, rounds: int, block: float) -> float:
    """Return the median over rounds of the time of ``first`` over that of ``second``."""
    for step in (first, second):
        for _ in range(3):
            step()
    start = time.perf_counter()
    second()
    calls = max(1, round(block / (time.perf_counter() - start)))
    found = [_seconds(first, calls) / _seconds(second, calls) for _ in range(rounds)]
    return statistics.median(found)


def _seconds(step: Step, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def against_twin(name: str, *, compiled: bool, rounds: int, block: float) -> float:
    """Return a network's time over its float twin's."""
    make, batch, shape = NETS[name]
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = make()
    twin = models.float_twin(copy.deepcopy(net))
    steps = [step_of(n, batch, shape, compiled=compiled) for n in (net, twin)]
    return ratios(steps[0], steps[1], rounds, block)


@contextmanager
def brevitas(python: str, name: str) -> Iterator[Step]:
    """Give a step that Brevitas's process takes on the same network."""
    _, batch, shape = NETS[name]
    net, precision = name.split()
    command = [python, str(PEER), net, precision, str(batch), *map(str, shape)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{python} cannot run {PEER.name}; is Brevitas installed there?")

    def step() -> None:
        process.stdin.write("step\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        process.stdout.readline()  # type: ignore[union-attr]

    try:
        yield step
    finally:
        process.stdin.close()
        process.wait()


def against_brevitas(python: str, name: str, rounds: int, block: float) -> float:
    """Return our time over Brevitas's, both eager."""
    make, batch, shape = NETS[name]
    torch.manual_seed(0)
    with brevitas(python, name) as peer:
        return ratios(step_of(make(), batch, shape, compiled=False), peer, rounds, block)


def show(rows: list[Row]) -> None:
    """Print the table."""
    width = max(len(row[0]) for row in rows)
    print(f"{'training step':{width}}  ratio   must  stretch")
    for what, ratio, must, stretch in rows:
        verdict = "stretch" if ratio <= stretch else "pass" if ratio <= must else "SHORT"
        print(f"{what:{width}}  {ratio:5.2f}  {must:5.2f}  {stretch:7.2f}  {verdict}")


def main() -> None:
    """Measure, print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--block", type=float, default=0.2, help="seconds of a turn")
    parser.add_argument("--brevitas", metavar="PYTHON", help="of an environment with Brevitas")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in NETS if arguments.only in name]
    rows: list[Row] = []
    for compiled, (must, stretch) in ((False, EAGER), (True, COMPILED)):
        for name in names:
            ratio = against_twin(
                name, compiled=compiled, rounds=arguments.rounds, block=arguments.block
            )
            mode = "compiled" if compiled else "eager"
            rows.append((f"{name} / float twin, {mode}", ratio, must, stretch))
    for name in names if arguments.brevitas else []:
        ratio = against_brevitas(arguments.brevitas, name, arguments.rounds, arguments.block)
        rows.append((f"{name} / Brevitas, eager", ratio, 1.0, 1.0))
    print(bench.this_machine())
    show(rows)
    if not arguments.brevitas:
        print("Brevitas was not measured: --brevitas PYTHON of its own environment, see Makefile")
    if arguments.json:
        keys = ("what", "ratio", "must", "stretch")
        found = [dict(zip(keys, row, strict=True)) for row in rows]
        arguments.json.write_text(json.dumps({"rows": found, "torch": torch.__version__}, indent=1))
    sys.exit(any(ratio > must for _, ratio, must, _ in rows))


if __name__ == "__main__":
    main()
