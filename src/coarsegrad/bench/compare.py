"""compare: a packed file beside its peers, in one run, with equal threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coarsegrad import runtime
from coarsegrad.bench.machine import Machine, this_machine
from coarsegrad.bench.timing import Run, medians


@dataclass(frozen=True)
class Contestant:
    """One way to run the network: median seconds of a call, and how many times ours that is."""

    name: str
    seconds: float
    ratio: float


@dataclass(frozen=True)
class StageTime:
    """One stage of the native engine: least microseconds for a chunk of the batch."""

    name: str
    microseconds: float


@dataclass(frozen=True)
class Comparison:
    """What was measured, on what; ``contestants[0]`` is the packed file.

    Attributes:
        file: the packed file.
        size: its bytes.
        float_size: bytes of the float twin's parameters, 0 without peers.
        target: what ran it.
        batch: samples in a call.
        threads: cores each contestant was given.
        contestants: the packed file, then its peers.
        stages: the packed file's stages, for one chunk of ``chunk`` samples.
        chunk: samples of a chunk; 0 for the numpy executor, which has no stages.
        load_seconds: median time of reading the file and laying it out.
        machine: processor, load, versions.
    """

    file: str
    size: int
    float_size: int
    target: str
    batch: int
    threads: int
    contestants: list[Contestant]
    stages: list[StageTime]
    chunk: int
    load_seconds: float
    machine: Machine


def compare(
    path: str | Path,
    *,
    batch: int = 1,
    threads: int = 1,
    target: str | None = None,
    peers: bool = True,
    rounds: int = 15,
) -> Comparison:
    """Time a packed file, and the float twin in torch and ONNX Runtime where they are installed.

    The twin is the same network with float32 weights and ReLU, batch norm fused; torch runs it in
    inference mode, in NCHW and channels_last; ONNX Runtime in float32 and statically quantized
    int8. Contestants take turns in one process.

    Args:
        path: the packed file.
        batch: samples in a call.
        threads: cores for every contestant.
        target: as in ``runtime.load``.
        peers: whether to time anything but the packed file.
        rounds: how often each contestant has its turn; the median counts.

    Raises:
        PackedFileError: the file is damaged.
        TargetError: the target does not run here.
        ValueError: ``batch``, ``threads`` or ``rounds`` is less than 1.
    """
    if batch < 1:
        raise ValueError(f"compare needs batch >= 1, got {batch}")
    machine = this_machine()
    model = runtime.load(path, threads=threads, target=target)
    shape = (batch, *model.program.input)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours = f"coarsegrad {model.target}"
    contestants: dict[str, Run] = {ours: lambda: model(x)}
    float_size = 0
    if peers:
        found, float_size = _peers(model, x, threads)
        contestants |= found
        from coarsegrad.bench.peers import torch_threads

        with torch_threads(threads):
            times = medians(contestants, rounds=rounds)
    else:
        times = medians(contestants, rounds=rounds)
    load = medians({"load": lambda: runtime.load(path, threads=threads, target=target)}, rounds=5)
    stages, chunk = model.stage_times(x)
    return Comparison(
        file=str(path),
        size=Path(path).stat().st_size,
        float_size=float_size,
        target=model.target,
        batch=batch,
        threads=threads,
        contestants=[Contestant(name, t, t / times[ours]) for name, t in times.items()],
        stages=[StageTime(name, time) for name, time in stages],
        chunk=chunk,
        load_seconds=load["load"],
        machine=machine,
    )


def _peers(
    model: runtime.Model, x: np.ndarray[tuple[int, ...], np.dtype[np.float32]], threads: int
) -> tuple[dict[str, Run], int]:
    from coarsegrad.errors import require

    require("torch", "torch", "timing the float twin")
    from coarsegrad.bench.peers import onnx_runs, torch_runs
    from coarsegrad.bench.twin import float_twin

    twin = float_twin(model.program)
    size = sum(4 * parameter.numel() for parameter in twin.parameters())
    return {**torch_runs(twin, x), **onnx_runs(twin, x, threads)}, size
