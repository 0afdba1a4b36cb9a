"""What an operation of a traced model is, as far as ``convert`` has to know."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from coarsegrad.quantizers import Quantizer

Kind = Literal[
    "weighted", "norm", "activation", "pass", "join", "sizes", "quantizer", "output", "other"
]

# A sign behind these is constant or nearly so: their results are never below zero.
_ONE_SIGNED: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus,
)  # fmt: skip
# These keep the sign, so that a sign behind them makes them idle. PReLU is absent: its slopes are
# parameters, whose keys would vanish.
_SIGN_KEEPING: tuple[type[nn.Module], ...] = (
    nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Hardtanh, nn.Tanh, nn.Softsign,
)  # fmt: skip
_ONE_SIGNED_NAMES = ("relu", "relu_", "relu6", "sigmoid", "sigmoid_", "hardsigmoid", "softplus")
_SIGN_KEEPING_NAMES = (
    "leaky_relu", "leaky_relu_", "rrelu", "rrelu_", "elu", "elu_", "selu", "selu_", "celu", "celu_",
    "gelu", "silu", "mish", "hardswish", "hardtanh", "hardtanh_", "tanh", "tanh_", "softsign",
)  # fmt: skip
_WEIGHTED: tuple[type[nn.Module], ...] = (
    nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.MultiheadAttention,
)  # fmt: skip
_WEIGHTED_NAMES = (
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "linear", "bilinear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum",
    "scaled_dot_product_attention", "multi_head_attention_forward",
)  # fmt: skip
_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)  # fmt: skip
_NORM_NAMES = ("batch_norm", "group_norm", "layer_norm", "instance_norm", "rms_norm")
# Modules from these files of torch move, pick or average values.
_PASS_FILES = frozenset(
    f"torch.nn.modules.{name}"
    for name in (
        "pooling", "dropout", "flatten", "padding", "upsampling", "pixelshuffle", "channelshuffle",
    )
)  # fmt: skip
_PASS_NAMES = (
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "alpha_dropout", "amax", "avg_pool1d", "avg_pool2d", "broadcast_to", "cat", "channel_shuffle",
    "chunk", "clone", "concat", "concatenate", "contiguous", "dropout", "dropout1d", "dropout2d",
    "expand", "feature_dropout", "flatten", "interpolate", "max_pool1d", "max_pool2d", "mean",
    "movedim", "narrow", "pad", "permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "reshape",
    "roll", "select", "split", "squeeze", "stack", "swapaxes", "transpose", "unbind", "unflatten",
    "unsqueeze", "view",
)  # fmt: skip
_JOIN_NAMES = (
    "add", "add_", "sub", "sub_", "mul", "mul_", "multiply", "div", "div_", "iadd", "isub", "imul",
    "truediv", "neg",
)  # fmt: skip
_SIZE_NAMES = ("size", "dim", "numel", "ndimension", "stride", "type", "get_device")
_SIZE_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad")


def _functions(names: Iterable[str]) -> frozenset[Any]:
    """Return torch's functions of these names, wherever they are kept."""
    spaces = (torch, F, operator)
    return frozenset(getattr(s, n) for n in names for s in spaces if hasattr(s, n))


_NAMES: dict[Kind, tuple[str, ...]] = {
    "activation": (*_ONE_SIGNED_NAMES, *_SIGN_KEEPING_NAMES),
    "weighted": _WEIGHTED_NAMES,
    "norm": _NORM_NAMES,
    "pass": (*_PASS_NAMES, "getitem"),
    "join": _JOIN_NAMES,
}
_FUNCTIONS: dict[Any, Kind] = {
    function: kind for kind, names in _NAMES.items() for function in _functions(names)
}
_FUNCTIONS[operator.matmul] = "weighted"
_METHODS: dict[str, Kind] = {
    **{name: kind for kind, names in _NAMES.items() for name in names},
    **dict.fromkeys(_SIZE_NAMES, "sizes"),
}
_ONE_SIGNED_FUNCTIONS = _functions(_ONE_SIGNED_NAMES)


def kinds_of(graph: fx.Graph, root: nn.Module) -> dict[fx.Node, Kind]:
    """Return what each node does; ``other`` is anything unknown, hence taken for nonlinear."""
    known: dict[fx.Node, Kind] = {}
    for node in graph.nodes:
        sources = node.all_input_nodes
        reads_sizes = bool(sources) and all(known[source] == "sizes" for source in sources)
        # A function of sizes alone gives sizes: x.shape[0] * x.shape[1].
        is_size = reads_sizes and node.op == "call_function"
        known[node] = "sizes" if is_size else _kind_of(node, root)
    return known


def _kind_of(node: fx.Node, root: nn.Module) -> Kind:
    match node.op:
        case "output":
            return "output"
        case "call_module":
            return _kind_of_module(root.get_submodule(str(node.target)))
        case "call_method":
            return _METHODS.get(str(node.target), "other")
        case "call_function":
            if node.target is getattr:
                return "sizes" if node.args[1] in _SIZE_ATTRIBUTES else "other"
            return _FUNCTIONS.get(node.target, "other")
    return "other"


def _kind_of_module(module: nn.Module) -> Kind:
    if isinstance(module, _NORMS):
        return "norm"
    if isinstance(module, Quantizer):
        return "quantizer"
    if isinstance(module, (*_ONE_SIGNED, *_SIGN_KEEPING)):
        return "activation"
    if is_weighted(module):
        return "weighted"
    if isinstance(module, nn.Identity) or type(module).__module__ in _PASS_FILES:
        return "pass"
    return "other"


def is_weighted(module: nn.Module) -> bool:
    """Whether a module is, or holds, a layer that multiplies by weights."""
    return any(isinstance(child, _WEIGHTED) for child in module.modules())


def is_one_signed(node: fx.Node, root: nn.Module) -> bool:
    """Whether an activation's result is never below zero."""
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), _ONE_SIGNED)
    return node.target in _ONE_SIGNED_FUNCTIONS or node.target in _ONE_SIGNED_NAMES


def is_inplace(node: fx.Node, root: nn.Module) -> bool:
    """Whether an activation overwrites its input."""
    if node.op == "call_module":
        return bool(getattr(root.get_submodule(str(node.target)), "inplace", False))
    # 1 == True: the alpha of F.celu(x, 1.0) is no flag.
    given = (*node.args[1:], node.kwargs.get("inplace"))
    return called(node).endswith("_") or any(value is True for value in given)


def called(node: fx.Node) -> str:
    """Return the plain name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def input_of(node: fx.Node) -> fx.Node:
    """Return what an operation on one tensor is applied to."""
    return node.all_input_nodes[0]
