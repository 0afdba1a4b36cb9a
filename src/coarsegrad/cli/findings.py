"""What ``doctor`` finds out, as plain values; nothing here needs torch."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.errors import CoarsegradError

if TYPE_CHECKING:
    from coarsegrad.packed import Program

# package -> the extra that brings it; "" is coarsegrad's own install.
PACKAGES = {
    "numpy": "",
    "safetensors": "",
    "typer": "",
    "rich": "",
    "torch": "torch",
    "lightning": "train",
    "torchmetrics": "train",
    "pydantic": "train",
    "PyYAML": "train",
    "tensorboard": "train",
    "scikit-learn": "train",
    "onnx": "export",
    "onnxruntime": "export",
}
# extra -> what it is for.
USES = {
    "torch": "pack, verify, summary, check and convert on models of your own",
    "train": "train, demo, and all commands on run folders",
    "export": "ONNX Runtime as a peer in bench",
}
VARIABLES = ("COARSEGRAD_TARGET", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NO_COLOR")
# data set -> the files that make it, any one tuple of them.
DATA = {
    "mnist": (
        tuple(
            f"mnist/{name}-ubyte.gz"
            for name in ("train-images-idx3", "train-labels-idx1",
                         "t10k-images-idx3", "t10k-labels-idx1")
        ),
    ),
    "cifar10": tuple(
        (f"cifar10/cifar-10-{form}",)
        for form in ("batches-py", "python.tar.gz", "batches-bin", "binary.tar.gz")
    ),
    "cifar10-jpeg": (("cifar10-jpeg/cifar10-jpeg.tar.gz",),),
}  # fmt: skip
_FETCHED = "the first `coarsegrad train` that needs it downloads it"
ADVICE = {
    "mnist": _FETCHED,
    "cifar10": _FETCHED,
    "cifar10-jpeg": "only a stand-in for cifar10, read where that is missing",
}


def versions() -> dict[str, str | None]:
    """Return each package's version; None where it is not installed."""
    import importlib.metadata

    from coarsegrad import __version__

    found: dict[str, str | None] = {
        "coarsegrad": __version__,
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def missing(found: dict[str, str | None]) -> list[dict[str, Any]]:
    """Return for each extra that is not whole: its missing packages, and what installs them.

    >>> missing({"torch": None, "onnx": "1.2"})[0]["command"]
    "pip install 'coarsegrad[torch]'"
    """
    gaps = []
    for extra, uses in USES.items():
        lacking = [n for n, e in PACKAGES.items() if e == extra and found.get(n, "") is None]
        if lacking:
            command = f"pip install 'coarsegrad[{extra}]'"
            gaps.append({"extra": extra, "packages": lacking, "uses": uses, "command": command})
    return gaps


def machine() -> dict[str, Any]:
    """Return processor, cores, load, torch's threads if it is there, and what the environment sets.

    ``torch`` is None where it is not installed; its ``error`` says why an installed one fails.
    """
    from coarsegrad.bench import this_machine

    here = this_machine()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else here.cores
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "usable_cores": usable,
        "load": here.load,
        "torch": _torch(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _torch() -> dict[str, Any] | None:
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return None
        return {"error": f"installed, but broken: {error}", "threads": None, "device": None}
    except (ImportError, OSError) as error:
        return {"error": f"installed, but broken: {error}", "threads": None, "device": None}
    device = "CUDA" if torch.cuda.is_available() else "CPU only"
    return {"error": None, "threads": torch.get_num_threads(), "device": device}


def runtime() -> dict[str, Any]:
    """Return the targets, the default one, and whether all that run agree on a small network."""
    from coarsegrad.runtime import targets
    from coarsegrad.runtime.targets import native_module

    native = native_module()
    every = targets()
    running = [target.name for target in every if target.runs]
    failure = _self_test(running)
    return {
        "native": None if native is None else native.__file__,
        "targets": [target._asdict() for target in every],
        "default": os.environ.get("COARSEGRAD_TARGET") or running[-1],
        "works": failure is None,
        "self_test": failure or f"passed: {', '.join(running)} agree on a small network",
    }


def _self_test(names: list[str]) -> str | None:
    """Run a small network on each target; return what is wrong, or None."""
    import numpy as np

    from coarsegrad.runtime import Model

    program = small_network()
    x = np.random.default_rng(1).integers(-64, 64, (3, *program.input)).astype(np.float32)
    expected = Model(program, target="numpy")(x)
    for name in names:
        try:
            found = Model(program, target=name)(x)
        except (CoarsegradError, RuntimeError, ValueError) as error:
            return f"FAILED: {name} does not run a small network: {error}; install coarsegrad again"
        if not np.array_equal(found, expected):
            return f"FAILED: {name} differs from numpy on a small network; install coarsegrad again"
    return None


def small_network() -> Program:
    """Return conv, threshold, conv, threshold, linear on bits: what a target has to be good at.

    >>> small_network().values[-1].shape
    (10,)
    """
    import numpy as np

    from coarsegrad.packed import Conv, Flatten, Linear, Program, Threshold, pack_bits

    draw = np.random.default_rng(0)

    def signs(*shape: int) -> Any:
        return pack_bits(draw.integers(0, 2, shape) * 2 - 1)

    ops = (
        Conv("a", (16, 3, 3, 3), padding=(1, 1, 1, 1)),
        Threshold("a"),
        Conv("b", (24, 16, 3, 3), padding=(1, 1, 1, 1), stride=(2, 2)),
        Threshold("b"),
        Flatten(),
        Linear("c", (10, 24 * 16)),
    )
    tensors = {
        "a.weight": signs(16, 3, 3, 3),
        "a.threshold": draw.standard_normal(16).astype(np.float32),
        "b.weight": signs(24, 16, 3, 3),
        "b.threshold": draw.integers(-9, 9, 24).astype(np.int16),
        "b.flip": signs(24),
        "c.weight": signs(10, 24 * 16),
    }
    return Program((3, 8, 8), ops, tensors)


def data() -> dict[str, Any]:
    """Return the folder that data sets are looked for in, and which of them are there."""
    from coarsegrad.data.root import data_root

    folder = data_root()
    return {
        "folder": folder,
        "sets": {
            name: {"here": _is_there(folder, forms), "advice": ADVICE[name]}
            for name, forms in DATA.items()
        },
    }


def _is_there(folder: Path, forms: tuple[tuple[str, ...], ...]) -> bool:
    return any(all((folder / file).exists() for file in form) for form in forms)
