"""The speed table of the optimizers, with pass or short per row: `make bench-optim`.

25.6 M float32 in the 161 tensors of ResNet-50, at 1 and at 2 threads. Contestants take turns in one
process on the same memory where they can; a contestant's figure of a round is the least of its
calls, and a row's is the median over rounds of ratios within a round. The floor is a pass in place
that reads five arrays and writes four, with hardly any arithmetic: what a step of AMSGrad has to
move. Page faults of eager steps are given, since a heap that returns its memory doubles their time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coarsegrad import _native, bench
from coarsegrad.optim import BAMSProd

Row = tuple[str, int, float, float, float, bool]  # what, threads, value, must, stretch, at least
Shape = tuple[int, ...]
ROUNDS, CALLS = 21, 3
COUNT = 25_557_032


def convolution(out: int, into: int, size: int) -> list[Shape]:
    """Weights of a convolution and of the batch normalisation behind it."""
    return [(out, into, size, size), (out,), (out,)]


def block(width: int, into: int, *, first: bool) -> list[Shape]:
    shapes = convolution(width, into, 1) + convolution(width, width, 3)
    shapes += convolution(4 * width, width, 1)
    return shapes + (convolution(4 * width, into, 1) if first else [])


RESNET50: list[Shape] = convolution(64, 3, 7)
RESNET50 += block(64, 64, first=True) + 2 * block(64, 256, first=False)
RESNET50 += block(128, 256, first=True) + 3 * block(128, 512, first=False)
RESNET50 += block(256, 512, first=True) + 5 * block(256, 1024, first=False)
RESNET50 += block(512, 1024, first=True) + 2 * block(512, 2048, first=False)
RESNET50 += [(1000, 2048), (1000,)]
assert len(RESNET50) == 161
assert sum(math.prod(shape) for shape in RESNET50) == COUNT


def parameters(shapes: list[Shape]) -> list[nn.Parameter]:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.rand(shape) - 0.5) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p) * 1e-2
    return params


class Contestants:
    """Named calls that take turns; ``faults`` are page faults of the last round's calls."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], Any]] = {}
        self.times: dict[str, list[float]] = {}
        self.faults: dict[str, int] = {}

    def run(self, rounds: int, calls: int) -> None:
        """Let all take their turns."""
        self.times = {name: [] for name in self.calls}
        for _ in range(rounds):
            for name, call in self.calls.items():
                call()  # the memory that the one before left in the cache is not this one's
                self.times[name].append(min(self._timed(name, call) for _ in range(calls)))

    def _timed(self, name: str, call: Callable[[], Any]) -> float:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        self.faults[name] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        return taken

    def median(self, name: str) -> float:
        """Return seconds."""
        return statistics.median(self.times[name])

    def ratio(self, one: str, other: str) -> float:
        """Return the median of one's time over the other's of the same round."""
        pairs = zip(self.times[one], self.times[other], strict=True)
        return statistics.median(a / b for a, b in pairs)


class Memory:
    """Parameters, and a BAMSProd and an Adam whose state lies in memory side by side."""

    def __init__(self, shapes: list[Shape]) -> None:
        self.params = parameters(shapes)
        self.ours = BAMSProd(self.params, lr=1e-3)
        self.adam = torch.optim.Adam(self.params, lr=1e-3, amsgrad=True)
        self.ours.step()
        self.adam.step()

    def bamsprod(self, **options: Any) -> Callable[[], Any]:
        """Return a step of BAMSProd under these options of its group."""

        def step() -> None:
            self.ours.param_groups[0].update(options)
            self.ours.step()

        return step

    def amsgrad(self, **options: Any) -> Callable[[], Any]:
        """Return a step of Adam(amsgrad=True) under these options of its group."""

        def step() -> None:
            self.adam.param_groups[0].update(options)
            self.adam.step()

        return step


def bandwidth(threads: int) -> dict[str, Callable[[], Any]]:
    """STREAM's copy and the five-stream floor, on arrays of their own."""
    arrays = [torch.rand(COUNT) for _ in range(5)]

    def move(others: list[Tensor]) -> None:
        _native.optim.move(arrays[0].data_ptr(), [x.data_ptr() for x in others], COUNT, threads)

    return {"copy": lambda: move(arrays[1:2]), "floor": lambda: move(arrays[1:])}


def fused_rows(memory: Memory, threads: int) -> list[Row]:
    plain = {"fused": None, "diagnostics": False}
    race = Contestants()
    race.calls = bandwidth(threads) | {
        "relative": memory.bamsprod(cstar="relative", **plain),
        "adam": memory.amsgrad(fused=True, foreach=False),
        "constant": memory.bamsprod(cstar="constant", **plain),
        "diagnosed": memory.bamsprod(cstar="relative", fused=None, diagnostics=True),
    }
    race.run(ROUNDS, CALLS)
    show_times(race, threads)
    # A copy moves three numbers for two: the line that is written is read before.
    copied, moved = 12 * COUNT / race.median("copy"), 36 * COUNT / race.median("floor")
    rate = statistics.median(
        3 * a / b for a, b in zip(race.times["copy"], race.times["floor"], strict=True)
    )
    print(f"  copy {copied / 1e9:.1f} GB/s, floor {moved / 1e9:.1f} GB/s")
    return [
        ("five-stream floor, of the rate of STREAM copy", threads, rate, 0.9, 0.9, True),
        ("BAMSProd fused / floor", threads, race.ratio("relative", "floor"), 1.15, 1.05, False),
        ("BAMSProd fused / Adam(amsgrad) fused", threads, race.ratio("relative", "adam"), 1.05, 1.0,
         False),
        ("statistics and diagnostics / neither", threads, race.ratio("diagnosed", "constant"), 1.1,
         1.03, False),
    ]  # fmt: skip


def eager_rows(memory: Memory, threads: int) -> list[Row]:
    eager = {"fused": False, "foreach": False}
    race = Contestants()
    race.calls = {
        "adam": memory.amsgrad(**eager),
        "constant": memory.bamsprod(cstar="constant", diagnostics=False, **eager),
        "relative": memory.bamsprod(cstar="relative", diagnostics=False, **eager),
    }
    race.run(ROUNDS // 2, 1)
    show_times(race, threads)
    return [
        ("eager, constant / Adam(amsgrad) eager", threads, race.ratio("constant", "adam"), 1.1, 1.0,
         False),
        ("eager, relative / Adam(amsgrad) eager", threads, race.ratio("relative", "adam"), 1.8, 1.5,
         False),
    ]  # fmt: skip


def overhead_row() -> Row:
    memory = Memory([(1,)] * 161)
    race = Contestants()
    race.calls = {
        "ours": memory.bamsprod(cstar="relative", fused=None, diagnostics=False),
        "adam": memory.amsgrad(fused=True, foreach=False),
    }
    race.run(50, 10)
    show_times(race, torch.get_num_threads())
    milliseconds = 1e3 * race.median("ours")
    return ("ms for 161 tensors of one element", torch.get_num_threads(), milliseconds, 0.5, 0.2,
            False)  # fmt: skip


def memory_row(memory: Memory) -> Row:
    """Numbers of state that AMSGrad does not have, the most of any tensor."""
    extra = 0
    for p in memory.params:
        ours, theirs = (
            sum(t.numel() for t in opt.state[p].values() if isinstance(t, Tensor))
            for opt in (memory.ours, memory.adam)
        )
        extra = max(extra, ours - theirs)
    return ("numbers of state a tensor over AMSGrad", 1, extra, 5, 5, False)


def show_times(race: Contestants, threads: int) -> None:
    parts = (
        f"{name} {1e3 * race.median(name):.2f} ms"
        + (f" ({race.faults[name]} faults)" if race.faults[name] > 99 else "")
        for name in race.calls
    )
    print(f"  {threads} thread{'s' * (threads > 1)}: {', '.join(parts)}", flush=True)


def show(rows: list[Row]) -> None:
    for what, threads, value, must, stretch, at_least in rows:
        sign = 1 if at_least else -1
        passes, beyond = sign * value >= sign * must, sign * value >= sign * stretch
        verdict = "pass, stretch too" if passes and beyond else "pass" if passes else "SHORT"
        bound = f"{'>=' if at_least else '<='} {must:g} ({stretch:g})"
        print(f"{what:48} {threads} thr. {value:8.3f}  {bound:16} {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description="The optimizers' speed table.")
    parser.add_argument("--json", type=Path, help="keep the rows and the machine here")
    parser.add_argument("--quick", action="store_true", help="no eager rows")
    arguments = parser.parse_args()
    machine = bench.this_machine()
    print(f"{machine.cpu}, load {machine.load:.1f}; {machine.versions}")
    memory = Memory(RESNET50)
    rows = [memory_row(memory)]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rows += fused_rows(memory, threads)
        if not arguments.quick:
            rows += eager_rows(memory, threads)
    torch.set_num_threads(1)
    rows.append(overhead_row())
    show(rows)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        kept = {"machine": dataclasses.asdict(machine), "rows": rows}
        arguments.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
