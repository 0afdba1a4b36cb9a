"""Speed of single bit kernels against float32 torch and against the machine, on one core.

Run with PYTHONPATH holding the built package: python benchmarks/kernels.py [--target NAME]
Times are the best of many runs; ratios are of times taken side by side, because the clock and the
neighbours of a shared machine change by the minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SHAPES = [(56, 64), (28, 128), (14, 256), (7, 512)]
ROUNDS = 5


def torch_times() -> dict[str, float]:
    """Best microseconds of torch float32, over NCHW and channels_last."""
    import torch

    torch.set_num_threads(1)
    times: dict = {"version": torch.__version__}

    def best(run, repeats):
        found = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            found = min(found, time.perf_counter() - start)
        return found * 1e6

    with torch.inference_mode():
        for size, channels in SHAPES:
            x = torch.randn(1, channels, size, size)
            for layout in (torch.contiguous_format, torch.channels_last):
                layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
                layer, given = layer.to(memory_format=layout), x.to(memory_format=layout)
                took = best(lambda layer=layer, given=given: layer(given), 40)
                name = f"{size}x{channels}"
                times[name] = min(times.get(name, took), took)
        linear, x = torch.nn.Linear(4096, 4096, bias=False), torch.randn(1, 4096)
        times["linear"] = best(lambda: linear(x), 40)
    return times


def torch_in_subprocess(isa: str) -> dict[str, float]:
    code = "import json, kernels; print(json.dumps(kernels.torch_times()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def our_times(target: str) -> dict[str, float]:
    from coarsegrad import _native

    testing = _native.testing
    times = {"ceiling": testing.ceiling(target)}
    for size, channels in SHAPES:
        name = f"{size}x{channels}"
        for finish in ("bits", "sums", "floats"):
            seconds = testing.time_bit_layer(
                target, 1, size, channels, channels, 3, 1, 1, finish, 1, 80
            )
            times[f"{name} {finish}"] = seconds * 1e6
        for layout, nchw in (("NHWC", False), ("NCHW", True)):
            times[f"{name} pack {layout}"] = (
                testing.time_pack(target, size, channels, nchw, 80) * 1e6
            )
    times["linear"] = (
        testing.time_bit_layer(target, 1, 1, 4096, 4096, 1, 1, 0, "sums", 1, 200) * 1e6
    )
    return times


def merge(best: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    """The better of both, entry by entry: the lower time, the higher ceiling."""
    for name, value in new.items():
        if name == "version":
            best[name] = value
        else:
            better = max if name == "ceiling" else min
            best[name] = better(best.get(name, value), value)
    return best


def rows(ours: dict[str, float], peer: dict[str, float]) -> list[tuple[str, str, str]]:
    found = []
    for size, channels in SHAPES:
        name = f"{size}x{channels}"
        macs = size * size * channels * channels * 9
        bits = ours[f"{name} bits"]
        share = macs / bits / 1e3 / ours["ceiling"]
        ratio = peer[name] / bits
        found.append(
            (
                f"3x3 {size}^2x{channels}",
                f"bits {bits:.0f} us, sums {ours[f'{name} sums']:.0f}, floats"
                f" {ours[f'{name} floats']:.0f}; {share:.0%} of the ceiling;"
                f" float32 {peer[name]:.0f} us",
                f"{ratio:.1f}x {'pass' if ratio >= 9 else 'short'} (9x)",
            )
        )
        for layout, limit in (("NHWC", 0.12), ("NCHW", 0.20)):
            part = ours[f"{name} pack {layout}"] / bits
            found.append(
                (
                    f"pack {layout} {size}^2x{channels}",
                    f"{ours[f'{name} pack {layout}']:.1f} us",
                    f"{part:.1%} {'pass' if part <= limit else 'short'} ({limit:.0%})",
                )
            )
    ratio = peer["linear"] / ours["linear"]
    found.append(
        (
            "linear 4096x4096",
            f"{ours['linear']:.1f} us; float32 {peer['linear']:.0f} us",
            f"{ratio:.0f}x {'pass' if ratio >= 60 else 'short'} (60x)",
        )
    )
    return found


def main() -> None:
    from coarsegrad import _native

    runnable = [name for name, _, runs, _ in _native.targets() if runs]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--target", choices=runnable, default=runnable[-1])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    isa = "AVX2" if args.target == "avx2" else "DEFAULT"
    ours: dict[str, float] = {}
    peer: dict[str, float] = {}
    for _ in range(ROUNDS):
        merge(ours, our_times(args.target))
        merge(peer, torch_in_subprocess(isa))
    print(
        f"target {args.target}, one thread, against torch {peer['version']} float32, best of NCHW"
        f" and channels_last, ONEDNN_MAX_CPU_ISA={isa}; ceiling {ours['ceiling']:.0f} MAC/ns;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    for name, what, verdict in rows(ours, peer):
        print(f"{name:18} {verdict:18} {what}")
    if args.json:
        args.json.write_text(json.dumps({"ours": ours, "torch": peer}, indent=1))


if __name__ == "__main__":
    main()
