"""Who the packed file is timed against: its float twin in torch and in ONNX Runtime."""

from __future__ import annotations

import copy
import importlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Floats = NDArray[np.float32]
Run = Callable[[], object]


def torch_runs(twin: nn.Module, x: Floats) -> dict[str, Run]:
    """Return calls of the twin in inference mode, in both memory layouts."""
    given = torch.from_numpy(x)
    layouts = {"NCHW": torch.contiguous_format}
    if given.dim() == 4:
        layouts["channels_last"] = torch.channels_last
    runs: dict[str, Run] = {}
    for name, layout in layouts.items():
        # A copy each: a change of layout is made in place.
        net = copy.deepcopy(twin).to(memory_format=layout)  # type: ignore[call-overload]
        runs[f"torch float32 {name}"] = _inference(net, given.to(memory_format=layout))
    return runs


def _inference(net: nn.Module, x: torch.Tensor) -> Run:
    def run() -> object:
        with torch.inference_mode():
            return net(x)

    return run


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads, and give back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def onnx_runs(twin: nn.Sequential, x: Floats, threads: int) -> dict[str, Run]:
    """Return calls of the twin in ONNX Runtime, float32 and int8; none where it is missing."""
    try:
        onnx, onnxruntime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
    except ImportError:
        return {}
    model = to_onnx(twin, x.shape[1:], onnx)
    with tempfile.TemporaryDirectory() as folder:
        floats, int8 = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, floats)
        _quantize(floats, int8, x)
        return {
            "ONNX Runtime float32": _session(onnxruntime, floats, x, threads),
            "ONNX Runtime int8": _session(onnxruntime, int8, x, threads),
        }


def _session(onnxruntime: ModuleType, path: Path, x: Floats, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _quantize(floats: Path, int8: Path, x: Floats) -> None:
    quantization = importlib.import_module("onnxruntime.quantization")

    class Reader:
        """What quantize_static asks of a CalibrationDataReader."""

        def __init__(self) -> None:
            self.batches = iter([{"x": x}])

        def get_next(self) -> dict[str, Floats] | None:
            return next(self.batches, None)

    # It advises on preprocessing at every call; this graph has nothing to preprocess.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantization.quantize_static(str(floats), str(int8), Reader())
    finally:
        logging.root.setLevel(level)


def to_onnx(twin: nn.Sequential, shape: tuple[int, ...], onnx: ModuleType) -> Any:
    """Return the twin as an ONNX model with a free batch dimension."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, weights, value = [], [], "x"
    for name, module in twin.named_children():
        inputs = [value]
        for key, parameter in module.named_parameters():
            weights.append(numpy_helper.from_array(parameter.numpy(), f"{name}.{key}"))
            inputs.append(f"{name}.{key}")
        kind, attributes = _onnx_node(module)
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        value = name
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "twin",
        [helper.make_tensor_value_info("x", floats, ["n", *shape])],
        [helper.make_tensor_value_info(value, floats, None)],
        weights,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def _onnx_node(module: nn.Module) -> tuple[str, dict[str, Any]]:
    match module:
        case nn.Conv2d():
            pads = [int(p) for p in module.padding] * 2
            return "Conv", {
                "strides": list(module.stride), "pads": pads, "dilations": list(module.dilation),
                "group": module.groups, "kernel_shape": list(module.kernel_size),
            }  # fmt: skip
        case nn.Linear():
            return "Gemm", {"transB": 1}
        case nn.ReLU():
            return "Relu", {}
        case nn.Flatten():
            return "Flatten", {"axis": 1}
        case nn.MaxPool2d():
            size, step, pad, dilation = (
                [int(n) for n in value]  # type: ignore[union-attr]
                for value in (module.kernel_size, module.stride, module.padding, module.dilation)
            )
            return "MaxPool", {
                "kernel_shape": size, "strides": step, "pads": pad * 2, "dilations": dilation,
            }  # fmt: skip
    raise ValueError(f"the float twin has a {type(module).__name__}, which has no ONNX node here")
