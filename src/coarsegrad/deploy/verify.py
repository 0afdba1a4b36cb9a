"""verify: layer by layer, the packed file computes what the torch model computes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from coarsegrad import runtime
from coarsegrad.deploy.pack import Lowered, to_program
from coarsegrad.deploy.segments import Segment
from coarsegrad.errors import VerifyError
from coarsegrad.packed import (
    Affine,
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Program,
    Threshold,
    unpack_bits,
)

# Two float32 sums of the same products differ by at most a few roundings of their magnitude.
_MARGIN = 8 * 2.0**-24
_RELATIVE = 1e-5
_CHUNK = 256


@dataclass(frozen=True)
class LayerReport:
    """One layer: values compared, bits that differ, and the largest relative float error.

    ``near_threshold`` counts the compared bits whose float sum is so close to the threshold that
    the order of summation decides; only those may differ.
    """

    name: str
    bits: bool
    compared: int = 0
    differing: int = 0
    near_threshold: int = 0
    error: float = 0.0


@dataclass
class Report:
    """What ``verify`` measured; it exists only if every layer agreed."""

    target: str
    samples: int = 0
    layers: dict[str, LayerReport] = field(default_factory=dict)
    logits_error: float = 0.0
    argmax_agreement: int = 0

    @property
    def differing_bits(self) -> int:
        """Bits that differ, all layers together; each of them near its threshold."""
        return sum(layer.differing for layer in self.layers.values())

    @property
    def compared_bits(self) -> int:
        """Bits compared, all layers together."""
        return sum(layer.compared for layer in self.layers.values() if layer.bits)

    def __str__(self) -> str:
        rows = [f"{'layer':<24}{'compared':>12}{'differ':>8}{'near t':>8}{'error':>10}"]
        for layer in self.layers.values():
            tail = (
                f"{layer.differing:>8}{layer.near_threshold:>8}{'':>10}"
                if layer.bits
                else f"{'':>16}{layer.error:>10.1e}"
            )
            rows.append(f"{layer.name:<24}{layer.compared:>12,}{tail}")
        rows.append(
            f"{self.samples} samples on {self.target}: {self.differing_bits} of "
            f"{self.compared_bits:,} bits differ, "
            f"arg-max agrees on {self.argmax_agreement}, "
            f"largest relative difference of the result {self.logits_error:.1e}"
        )
        return "\n".join(rows)


def verify(model: nn.Module, path: str | Path, x: Tensor, *, target: str | None = None) -> Report:
    """Prove on a batch that the packed file computes what the model computes.

    Each packed layer gets the bits or floats that the torch layer got. Bits from integer sums
    must be equal. Bits from float sums may differ only where the sum is within
    8 * 2^-24 * sum |w| |x| of the threshold (a bias that torch sums along counts as a product);
    they are counted. Float results must agree to 1e-5 of the largest result or shift, and so
    must the result of the whole file, unless such a bit differed.

    Args:
        model: the model that was packed; evaluated as in ``model.eval()``, left as it is.
        path: the packed file.
        x: a batch, (N, ...) float32.
        target: what runs the file, as in ``runtime.load``.

    Raises:
        TargetError: the target does not run here.
        VerifyError: the first layer that differs, by name, with the count.
        PackedFileError: the file is damaged.
        PackError: the model has no packed form.
    """
    packed = runtime.load(path, target=target)
    lowered = to_program(model, x)
    _check_same_graph(lowered.program, packed.program, path)
    report = Report(target=packed.target)
    for chunk in torch.split(x.detach().cpu(), _CHUNK):
        _verify_chunk(lowered, packed, chunk, report)
    return report


def _verify_chunk(lowered: Lowered, packed: runtime.Model, x: Tensor, report: Report) -> None:
    recorded = lowered.chain.record(x)
    differing_before = report.differing_bits
    for segment, (start, stop) in zip(lowered.segments, lowered.ranges, strict=True):
        done = report.layers.get(segment.name, LayerReport(segment.name, segment.signed))
        report.layers[segment.name] = _compare(segment, packed, start, stop, recorded, done)
    expected = recorded[_result(lowered.chain.traced)].numpy()
    got = packed.run(0, len(packed.program.ops), x.numpy()).astype(np.float32)
    shift = _shift(packed.program, lowered.segments[-1])
    error = _relative(got, expected, shift)
    if report.differing_bits == differing_before and not error <= _RELATIVE:
        raise VerifyError(
            f"the results differ by {error:.1e} of the largest, though every layer agrees; "
            f"allowed is {_RELATIVE:.0e}: please report this as a bug"
        )
    report.samples += len(x)
    report.logits_error = max(report.logits_error, error)
    rows = (len(x), -1)
    agrees = got.reshape(rows).argmax(1) == expected.reshape(rows).argmax(1)
    report.argmax_agreement += int(agrees.sum())


def _compare(
    segment: Segment,
    packed: runtime.Model,
    start: int,
    stop: int,
    recorded: dict[fx.Node, Tensor],
    done: LayerReport,
) -> LayerReport:
    fed, expected = segment.fed(recorded), segment.value(recorded).numpy()
    value: NDArray[Any] = fed.numpy().astype(np.int8 if segment.fed_by_bits else np.float32)
    got = packed.run(start, stop, value)
    compared = done.compared + expected.size
    if not segment.signed:
        shift = _shift(packed.program.part(start, stop), segment)
        error = max(done.error, _relative(got, expected, shift))
        if not error <= _RELATIVE:
            raise VerifyError(
                f"{segment.name}: floats differ by {error:.1e} of the largest; allowed is "
                f"{_RELATIVE:.0e}. Was the file packed from this model? Pack it again"
            )
        return replace(done, compared=compared, error=error)
    differs = got != expected
    near = _near_threshold(packed.program, start, stop, fed, _inner_bias(segment))
    if (differs & ~near).any():
        raise VerifyError(
            f"{segment.name}: {int((differs & ~near).sum())} of {expected.size} bits differ. "
            "Was the file packed from this model? Pack it again"
        )
    return replace(
        done,
        compared=compared,
        differing=done.differing + int(differs.sum()),
        near_threshold=done.near_threshold + int(near.sum()),
    )


def _inner_bias(segment: Segment) -> Tensor | float:
    """Return |bias| of a layer whose torch twin starts its float sum from it, per channel."""
    module = None if segment.head is None else segment.head.module
    bias = None if module is None else module.bias
    if not isinstance(bias, Tensor):
        return 0.0
    return bias.double().abs().reshape(-1, *((1, 1) if isinstance(module, nn.Conv2d) else ()))


def _shift(program: Program, segment: Segment) -> float:
    """Return the largest number that a result near 0 cancels from.

    That is |b| of the program's last a * s + b, or a term of b: torch's batch norm computes
    b = beta - mean * a, and what follows scales the rounding of both terms.
    """
    affines = [program.tensors[f"{op.name}.affine"] for op in program.ops if isinstance(op, Affine)]
    largest = max((float(np.abs(affine[1]).max()) for affine in affines[-1:]), default=0.0)
    gain = 1.0
    for step in reversed((*segment.before, *segment.after)):
        norm = step.module
        if isinstance(norm, _BatchNorm) and norm.running_var is not None:
            assert norm.running_mean is not None
            a = (norm.running_var + norm.eps).rsqrt()
            if norm.affine:
                a = a * norm.weight.detach().abs()
                largest = max(largest, gain * float(norm.bias.detach().abs().max()))
            largest = max(largest, gain * float((norm.running_mean.abs() * a).max()))
            gain *= float(a.max())
    return largest


def _near_threshold(
    program: Program, start: int, stop: int, fed: Tensor, bias: Tensor | float
) -> NDArray[np.bool_]:
    """Return where rounding of a float sum may decide the bit: an interval around it holds t.

    The interval [low, high] around the sum goes through the pools ahead of the threshold, which
    are monotone; behind it, a pooled bit is near if any bit of its window is.
    """
    low = high = fed.double()
    near: Tensor | None = None
    for i in range(start, stop):
        op = program.ops[i]
        match op:
            case Conv() | Linear():
                exact = program.values[i + 1].exact
                low, high = _interval(op, low, program, 0.0 if exact else _MARGIN, bias)
            case Threshold():
                t = torch.from_numpy(program.tensors[f"{op.name}.threshold"].astype(np.float64))
                t = t.reshape(-1, *(1,) * (low.dim() - 2))
                near = (low <= t) & (t <= high) & (low != high)
            case MaxPool():
                if near is None:
                    low, high = _pool(op, low), _pool(op, high)
                else:
                    near = _pool(op, near.double()) > 0
            case Flatten():
                low, high = low.flatten(1), high.flatten(1)
                near = None if near is None else near.flatten(1)
            case _:
                pass
    result = torch.zeros_like(low, dtype=torch.bool) if near is None else near
    return result.numpy()


def _interval(
    op: Conv | Linear, x: Tensor, program: Program, margin: float, bias: Tensor | float
) -> tuple[Tensor, Tensor]:
    stored = program.tensors[f"{op.name}.weight"]
    if stored.dtype == np.uint8:
        stored = unpack_bits(stored, int(np.prod(op.shape))).reshape(op.shape)
    weight = torch.from_numpy(stored.astype(np.float64))
    if isinstance(op, Linear):
        s, magnitude = F.linear(x, weight), F.linear(x.abs(), weight.abs())
    else:
        top, left, bottom, right = op.padding
        x = F.pad(x, (left, right, top, bottom), value=op.pad)

        def convolve(x: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(x, weight, None, op.stride, 0, op.dilation, op.groups)

        s, magnitude = convolve(x, weight), convolve(x.abs(), weight.abs())
    reach = margin * (magnitude + bias)
    return s - reach, s + reach


def _pool(op: MaxPool, x: Tensor) -> Tensor:
    return F.max_pool2d(x, op.size, op.step, op.padding, op.dilation)


def _relative(got: NDArray[Any], expected: NDArray[Any], shift: float) -> float:
    if not np.isfinite(got).all() or not np.isfinite(expected).all():
        return float("inf")
    largest = max(shift, float(np.abs(expected).max(initial=0.0)))
    difference = float(np.abs(got.astype(np.float64) - expected).max(initial=0.0))
    return difference / largest if largest else difference


def _result(traced: fx.GraphModule) -> fx.Node:
    output = next(node for node in traced.graph.nodes if node.op == "output")
    result = output.args[0]
    assert isinstance(result, fx.Node)
    return result


def _check_same_graph(model: Program, packed: Program, path: str | Path) -> None:
    if (model.input, model.ops) != (packed.input, packed.ops):
        raise VerifyError(
            f"{path} holds another network than this model: it has "
            f"{len(packed.ops)} ops on {list(packed.input)}, the model {len(model.ops)} on "
            f"{list(model.input)}, or their settings differ; pack the model again"
        )
