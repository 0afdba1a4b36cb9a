"""The speed table of the native runtime, with pass or short per row: `make bench-runtime`.

One core unless a row says otherwise, batch 1 unless it says 64. Contestants take turns in one
process; a contestant's figure of a round is the least of its calls, a row's is the median over
rounds. Baselines: torch float32, best of NCHW, channels_last and oneDNN-prepacked, and ONNX
Runtime, float32 and statically quantized int8. Rows exist only for targets that this CPU has. Each
section runs in a process of its own, since oneDNN reads its instruction set from the environment.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from taking_turns import ROUNDS, Row, best, block, turns

from coarsegrad import _native, bench, packed, runtime
from coarsegrad.packed import Affine, Conv, Linear, Program, Sign

SHAPES = [(56, 64), (28, 128), (14, 256), (7, 512)]


def program(ops: tuple[packed.Op, ...], shape: tuple[int, ...]) -> Program:
    """A network of these ops with random bits and affines."""
    rng = np.random.default_rng(0)
    tensors = {}
    for op in ops:
        if isinstance(op, (Conv, Linear)):
            tensors[f"{op.name}.weight"] = packed.pack_bits(rng.standard_normal(np.prod(op.shape)))
        if isinstance(op, Affine):
            tensors[f"{op.name}.affine"] = np.ones((2, ops[-2].shape[0]), np.float32)
    return Program(shape, ops, tensors)


def conv3x3(size: int, channels: int) -> Program:
    conv = Conv("a", (channels, channels, 3, 3), padding=(1, 1, 1, 1))
    return program((Sign(), conv, Affine("a")), (channels, size, size))


def layer_peers(net: Program, *, onnx: bool = True) -> dict[str, Callable[[], float]]:
    """The float layer alone (no sign, no ReLU) in torch and ONNX Runtime."""
    import torch
    from torch.utils import mkldnn

    from coarsegrad.bench.peers import onnx_runs, torch_runs
    from coarsegrad.bench.twin import float_twin

    torch.set_num_threads(1)
    twin = torch.nn.Sequential(*(m for m in float_twin(net) if not isinstance(m, torch.nn.ReLU)))
    x = np.random.default_rng(0).standard_normal((1, *net.input)).astype(np.float32)
    runs = torch_runs(twin, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepacked, given = mkldnn.to_mkldnn(copy.deepcopy(twin)), torch.from_numpy(x).to_mkldnn()

    def run_prepacked() -> object:
        with torch.inference_mode():
            return prepacked(given)

    runs["torch float32 prepacked"] = run_prepacked
    if onnx:
        runs |= onnx_runs(twin, x, 1)
    return {name: block(run) for name, run in runs.items()}


def ours(target: str, size: int, channels: int) -> dict[str, Callable[[], float]]:
    t = _native.testing
    layer = (target, 1, size, channels, channels, 3, 1, 1)
    return {
        "bits": lambda: t.time_bit_layer(*layer, "bits", 1, 60),
        "sums": lambda: t.time_bit_layer(*layer, "sums", 1, 60),
        "pack NHWC": lambda: t.time_pack(target, size, channels, False, 60),
        "pack NCHW": lambda: t.time_pack(target, size, channels, True, 60),
    }


def conv_rows(target: str) -> list[Row]:
    rows: list[Row] = []
    for size, channels in SHAPES:
        net = conv3x3(size, channels)
        model = runtime.Model(net, target=target)
        x = np.random.default_rng(0).standard_normal((1, *net.input)).astype(np.float32)
        contestants = ours(target, size, channels) | layer_peers(net, onnx=target != "avx2")
        contestants["drop-in"] = block(lambda model=model, x=x: model(x))
        times = turns(contestants)
        floats, bits = best(times, "float32"), times["bits"]
        name = f"{target} 3x3 {size}^2x{channels}"
        share = size * size * channels * channels * 9 / bits / 1e9 / _native.testing.ceiling(target)
        if target == "avx512vpopcnt":
            rows += [
                (name, "share of the ceiling, %", 100 * share, 77, 90, True),
                (name, "x float32", floats / bits, 16, 20, True),
                (name, "x int8", best(times, "int8") / bits, 4.5, 5.5, True),
                (name, "drop-in call, x float32", floats / times["drop-in"], 10, 14, True),
            ]
        elif target == "avx512bw" and channels >= 128:
            rows.append((name, "share of the ceiling, %", 100 * share, 36, 46, True))
        elif target == "avx2":
            rows.append((name, "x torch float32, AVX2", floats / bits, 9, 12, True))
        if target == best_target():
            for layout, must in (("NHWC", 12), ("NCHW", 20)):
                part = 100 * times[f"pack {layout}"] / bits
                place = f"pack {layout} {size}^2x{channels}"
                rows.append((place, "% of the next 3x3", part, must, 8,
                             False))  # fmt: skip
    return rows


def few_rows() -> list[Row]:
    """Layers of few outputs with thresholds, by tables, against sums, which are always gathered."""
    target, t = best_target(), _native.testing
    rows: list[Row] = []
    for outputs in (4, 8, 16, 24):
        layer = (target, 2, 32, 16, outputs, 3, 1, 0)
        contestants = {
            finish: lambda layer=layer, finish=finish: t.time_bit_layer(*layer, finish, 1, 60, 2)
            for finish in ("bits", "sums")
        }
        times = turns(contestants)
        rows.append((f"W1A2 3x3 32^2x16, {outputs} outputs", "x as fast as gathering",
                     times["sums"] / times["bits"], 1, 2, True))  # fmt: skip
    return rows


# Activations and weights of several bits: planes of each; against floats.
WIDE = {"W2A2 without 0": (2, 2), "W3A3": (3, 3), "W4A2": (2, 4), "W4A4": (4, 4)}


def wide_rows() -> list[Row]:
    target, t = best_target(), _native.testing
    rows: list[Row] = []
    for size, channels in SHAPES[1:3]:
        contestants = layer_peers(conv3x3(size, channels), onnx=False)
        contestants["float kernel"] = lambda size=size, channels=channels: t.time_float_layer(
            target, 1, size, channels, channels, 3, 1, 1, 5
        )
        layer = (target, 1, size, channels, channels, 3, 1, 1, "bits", 1, 20)
        for name, (planes, weight_planes) in WIDE.items():
            contestants[name] = lambda layer=layer, p=planes, w=weight_planes: t.time_bit_layer(
                *layer, planes=p, weight_planes=w
            )
        times = turns(contestants)
        for name in WIDE:
            path = f"{name} 3x3 {size}^2x{channels}"
            rows += [
                (path, "x our float kernel", times["float kernel"] / times[name], 1, 2, True),
                (path, "x torch float32", best(times, "float32") / times[name], 1, 2, True),
            ]
    return rows


# Weights and activations; their layers against the 1-bit ones. The issue asks for W1A2 at 28^2x128.
PLANES = {"W1A2": (2, False, 2.2, 2.0), "W1A4": (4, False, 4.4, 4.0), "W2A2": (2, True, 4.4, 4.0)}


def plane_rows() -> list[Row]:
    target, rows = best_target(), []
    for size, channels in SHAPES:
        layer = (target, 1, size, channels, channels, 3, 1, 1, "bits", 1, 60)
        contestants = {"W1A1": lambda layer=layer: _native.testing.time_bit_layer(*layer)}
        for name, (planes, ternary, _, _) in PLANES.items():
            contestants[name] = lambda layer=layer, p=planes, t=ternary: (
                _native.testing.time_bit_layer(*layer, planes=p, ternary=t)
            )
        times = turns(contestants)
        rows += [
            (f"{name} 3x3 {size}^2x{channels}", "x the W1A1 kernel's time",
             times[name] / times["W1A1"], must, stretch, False)
            for name, (_, _, must, stretch) in PLANES.items()
        ]  # fmt: skip
    return rows


def lenet5(*, float_ends: bool, bits: int = 2) -> Program:
    """LeNet-5 6-16-120-84 with integers of ``bits`` bits between its layers, of random numbers."""
    rng = np.random.default_rng(0)
    layers = (Conv("1", (6, 1, 5, 5), padding=(2, 2, 2, 2), pad=-1),
              Conv("2", (16, 6, 5, 5), low=0), Linear("3", (120, 400), low=0),
              Linear("4", (84, 120), low=0), Linear("5", (10, 84), low=0))  # fmt: skip
    ops: list[packed.Op] = []
    tensors: dict[str, np.ndarray] = {}
    for layer in layers:
        weight = rng.standard_normal(layer.shape)
        packs = not (float_ends and layer.name in "15")
        tensors[f"{layer.name}.weight"] = (
            packed.pack_bits(weight) if packs else weight.astype(np.float32)
        )
        pools = [packed.MaxPool((2, 2))] if isinstance(layer, Conv) else []
        ops += [layer, *pools]
        if layer.name == "5":
            ops.append(Affine("5"))
            tensors["5.affine"] = np.ones((2, 10), np.float32)
            continue
        rows = np.arange(2**bits - 1)[:, None].repeat(layer.shape[0], 1) * 8
        tensors[f"{layer.name}.threshold"] = rows.astype(
            np.float32 if layer.name == "1" else np.int16
        )
        ops.append(packed.Threshold(layer.name, bits))
        if layer.name == "2":
            ops.append(packed.Flatten())
    return Program((1, 28, 28), tuple(ops), tensors)


def lenet5_rows() -> list[Row]:
    import torch

    from coarsegrad.bench.peers import onnx_runs, torch_runs
    from coarsegrad.bench.twin import float_twin

    torch.set_num_threads(1)
    rows: list[Row] = []
    for float_ends in (False, True):
        net = lenet5(float_ends=float_ends)
        model, twin = runtime.Model(net), float_twin(net)
        name = "W1A2 lenet5" + (", float ends" if float_ends else "")
        for batch in (1, 64):
            x = np.random.default_rng(0).uniform(-1, 1, (batch, *net.input)).astype(np.float32)
            runs = torch_runs(twin, x) | onnx_runs(twin, x, 1)
            contestants = {peer: block(run) for peer, run in runs.items() if "float32" in peer}
            contestants["ours"] = block(lambda model=model, x=x: model(x))
            times = turns(contestants)
            for peer, must, stretch in (("ONNX", 2, 4), ("torch", 4, 8)):
                rows.append((f"{name}, batch {batch}", f"x {peer} float32",
                             best(times, peer) / times["ours"], must, stretch, True))  # fmt: skip
    return rows


def best_target() -> str:
    return [target.name for target in runtime.targets() if target.runs][-1]


def linear_rows() -> list[Row]:
    net = program((Sign(), Linear("a", (4096, 4096)), Affine("a")), (4096,))
    t = _native.testing
    contestants = layer_peers(net)
    arguments = (best_target(), 1, 1, 4096, 4096, 1, 1, 0, "sums", 1, 200)
    contestants["bits"] = lambda: t.time_bit_layer(*arguments)
    times = turns(contestants)
    ratio = best(times, "float32") / times["bits"]
    return [("linear 4096x4096", "x float32", ratio, 60, 90, True)]


def network_rows() -> list[Row]:
    import torch

    from coarsegrad import deploy, models

    torch.manual_seed(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small_cnn.cgrad")
        deploy.pack(models.small_cnn(), torch.zeros(1, 1, 28, 28), path)
        one, many = (bench.compare(path, batch=batch, rounds=ROUNDS) for batch in (1, 64))
        load = bench.medians({"load": lambda: runtime.load(path)}, rounds=ROUNDS)["load"]
    for found, floor in ((one, {"ONNX": (2, 4), "torch": (5, 10)}), (many, {"torch": (4, 8)})):
        ratios = {c.name: c.ratio for c in found.contestants}
        for peer, (must, stretch) in floor.items():
            ratio = min(r for name, r in ratios.items() if peer in name and "float32" in name)
            rows.append((f"small_cnn, batch {found.batch}", f"x {peer} float32", ratio, must,
                         stretch, True))  # fmt: skip
    rows.append(("load of small_cnn", "ms", load * 1e3, 5, 1, False))
    return rows


def rate(target: str, size: int, channels: int, seconds: float, results) -> None:
    """Calls a second of one thread; a process of its own."""
    t = _native.testing
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        t.time_bit_layer(target, 1, size, channels, channels, 3, 1, 1, "bits", 1, 20)
        done += 20
    results.put(done / (time.perf_counter() - start))


def thread_rows() -> list[Row]:
    """The gain of two threads, as a share of what two processes gain in the same minute."""
    target = best_target()
    rows: list[Row] = []
    context = multiprocessing.get_context("spawn")
    for size, channels in SHAPES:
        gains, ideals = [], []
        layer = (target, 1, size, channels, channels, 3, 1, 1, "bits")
        for _ in range(5):
            single, double = (
                min(_native.testing.time_bit_layer(*layer, threads, 200) for _ in range(5))
                for threads in (1, 2)
            )
            gains.append(single / double)
            ideals.append(processes(context, 2, target, size, channels)
                          / processes(context, 1, target, size, channels))  # fmt: skip
        share = statistics.median(gains) / statistics.median(ideals)
        rows.append((f"two threads, 3x3 {size}^2x{channels}", "share of two processes' gain",
                     share, 0.85, 0.95, True))  # fmt: skip
    return rows


def processes(context, count: int, target: str, size: int, channels: int) -> float:
    results = context.Queue()
    arguments = (target, size, channels, 1.0, results)
    workers = [context.Process(target=rate, args=arguments) for _ in range(count)]
    for worker in workers:
        worker.start()
    total = sum(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "avx512vpopcnt": lambda: conv_rows("avx512vpopcnt"),
    "avx512bw": lambda: conv_rows("avx512bw"),
    "avx2": lambda: conv_rows("avx2"),
    "planes": plane_rows,
    "weights": wide_rows,
    "few": few_rows,
    "linear": linear_rows,
    "lenet5": lenet5_rows,
    "network": network_rows,
    "threads": thread_rows,
}


def run_section(name: str) -> list[Row]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if name == "avx2":
        environment["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    done = subprocess.run([sys.executable, __file__, "--section", name], env=environment,
                          stdout=subprocess.PIPE, text=True, check=True)  # fmt: skip
    return [tuple(row) for row in json.loads(done.stdout)]


def show(rows: list[Row]) -> None:
    print(f"{'path':<34}{'measure':<34}{'value':>8}{'must':>9}{'stretch':>9}")
    for path, measure, value, must, stretch, at_least in rows:
        sign, side = (">=", 1) if at_least else ("<=", -1)
        reached = side * value
        verdict = (
            "stretch"
            if reached >= side * stretch
            else "pass"
            if reached >= side * must
            else "SHORT"
        )
        print(
            f"{path:<34}{measure:<34}{value:>8.2f}{f'{sign} {must:g}':>9}{stretch:>9g}  {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="The runtime's speed table.")
    parser.add_argument("--section", choices=SECTIONS)
    parser.add_argument("--json", type=Path, help="keep the rows and the machine here")
    arguments = parser.parse_args()
    if arguments.section:
        print(json.dumps(SECTIONS[arguments.section]()))
        return
    able = {target.name for target in runtime.targets() if target.runs}
    machine = bench.this_machine()
    print(f"{machine.cpu}, load {machine.load:.1f}; {machine.versions}; target {best_target()}")
    absent = [name for name in ("avx512vpopcnt", "avx512bw", "avx2") if name not in able]
    if absent:
        print(f"no rows for {', '.join(absent)}: this CPU does not have them")
    rows = [row for name in SECTIONS if name not in absent for row in run_section(name)]
    show(rows)
    if arguments.json:
        import dataclasses

        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"machine": dataclasses.asdict(machine), "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
