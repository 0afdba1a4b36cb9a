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
BATCHES = (1, 64)
# Bits of activations, whether weights are ternary, and the name.
PLANES = ((2, False, "W1A2"), (4, False, "W1A4"), (2, True, "W2A2"))
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
        net = float_twin()
        for images in BATCHES:
            x = torch.randn(images, 1, 28, 28)
            for layout in (torch.contiguous_format, torch.channels_last):
                net, given = net.to(memory_format=layout), x.to(memory_format=layout)
                took = best(lambda net=net, given=given: net(given), 20 + 400 // images)
                name = f"small_cnn {images}"
                times[name] = min(times.get(name, took), took)
    return times


def float_twin():
    """Return the float32 network that small_cnn stands for, batch normalisation fused."""
    from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

    return Sequential(
        *(Conv2d(1, 32, 3), ReLU(), MaxPool2d(2)),
        *(Conv2d(32, 64, 3), ReLU(), MaxPool2d(2)),
        *(Conv2d(64, 64, 3), ReLU(), Flatten()),
        *(Linear(576, 64), ReLU(), Linear(64, 10)),
    ).eval()


def onnxruntime_time() -> float | None:
    """Best microseconds of the float twin at batch 1 in ONNX Runtime; None where not installed."""
    try:
        import onnx  # noqa: F401, needed by the export
        import onnxruntime
    except ImportError:
        return None
    import io
    import warnings

    import torch

    file, x = io.BytesIO(), torch.randn(1, 1, 28, 28)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(float_twin(), (x,), file, dynamo=False, input_names=["x"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    given, found = {"x": x.numpy()}, float("inf")
    for _ in range(3000):
        start = time.perf_counter()
        session.run(None, given)
        found = min(found, time.perf_counter() - start)
    return found * 1e6


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
        for planes, ternary, kind in PLANES:
            seconds = testing.time_bit_layer(
                target, 1, size, channels, channels, 3, 1, 1, "bits", 1, 80, planes, ternary
            )
            times[f"{name} {kind}"] = seconds * 1e6
        for layout, nchw in (("NHWC", False), ("NCHW", True)):
            times[f"{name} pack {layout}"] = (
                testing.time_pack(target, size, channels, nchw, 80) * 1e6
            )
    times["linear"] = (
        testing.time_bit_layer(target, 1, 1, 4096, 4096, 1, 1, 0, "sums", 1, 200) * 1e6
    )
    for images in BATCHES:
        stages = testing.time_small_cnn(target, images, 40 + 2000 // images)
        times[f"small_cnn {images}"] = stages["all"]
    # Stages one by one, and the preparation of all, of batch 1.
    for name, took in testing.time_small_cnn(target, 1, 2000).items():
        times[f"small_cnn {name}"] = took
    times["prepare dense"] = testing.time_prepare_dense(target, 4096) * 1e3
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
        for planes, ternary, kind in PLANES:
            took, limit = ours[f"{name} {kind}"], 1.1 * planes * (1 + ternary)
            ratio = took / bits
            found.append(
                (
                    f"{kind} 3x3 {size}^2x{channels}",
                    f"{took:.0f} us, of W1A1 {bits:.0f}",
                    f"{ratio:.2f}x {'pass' if ratio <= limit else 'short'} ({limit:.1f}x)",
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
    found.extend(network_rows(ours, peer))
    return found


def network_rows(ours: dict[str, float], peer: dict[str, float]) -> list[tuple[str, str, str]]:
    def against(images: int, times: float, name: str, need: float) -> tuple[str, str, str]:
        mine = ours[f"small_cnn {images}"]
        verdict = f"{times / mine:.1f}x {'pass' if times / mine >= need else 'short'} ({need:.0f}x)"
        return f"small_cnn x{images}", f"{mine:.1f} us; {name} {times:.0f} us", verdict

    found = [against(1, peer["small_cnn 1"], "torch float32", 5)]
    if "onnxruntime" in peer:
        found.append(against(1, peer["onnxruntime"], "ONNX Runtime float32", 2))
    found.append(against(64, peer["small_cnn 64"], "torch float32", 4))
    stages = ("conv1", "pool1", "conv2", "pool2", "conv3", "dense1", "dense2")
    parts = ", ".join(f"{stage} {ours[f'small_cnn {stage}']:.2f}" for stage in stages)
    found.append(("small_cnn stages", parts, "us"))
    for what, took, limit in (
        ("small_cnn", ours["small_cnn prepare"] / 1e3, 0.5),
        ("4096x4096", ours["prepare dense"] / 1e3, 100),
    ):
        verdict = f"{'pass' if took < limit else 'short'} (< {limit:g} ms)"
        found.append((f"prepare {what}", f"{took:.2f} ms", verdict))
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
    runtime = onnxruntime_time()
    if runtime is not None:
        peer["onnxruntime"] = runtime
    print(
        f"target {args.target}, one thread, against torch {peer['version']} float32, best of NCHW"
        f" and channels_last, ONEDNN_MAX_CPU_ISA={isa}; ceiling {ours['ceiling']:.0f} MAC/ns;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    for name, what, verdict in rows(ours, peer):
        print(f"{name:18} {verdict:20} {what}")
    if args.json:
        args.json.write_text(json.dumps({"ours": ours, "torch": peer}, indent=1))


if __name__ == "__main__":
    main()
