"""verify: layer by layer, the packed file computes what the torch model computes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from coarsegrad import runtime
from coarsegrad.deploy.layers import bias_of
from coarsegrad.deploy.margins import Possible, Terms, cancelled, gain, possible_levels
from coarsegrad.deploy.pack import Lowered, to_program
from coarsegrad.deploy.segments import Segment
from coarsegrad.errors import VerifyError
from coarsegrad.packed import Program

_RELATIVE = 1e-5
_CHUNK = 256


@dataclass(frozen=True)
class LayerReport:
    """One layer: values compared, bits that differ, and the largest relative float error.

    ``near_threshold`` counts the compared bits whose float sum is so close to a threshold that
    the order of summation decides; only those may differ. A value of ``width`` bits counts once.
    """

    name: str
    bits: bool
    width: int = 1
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
        """Bits or levels that differ, all layers together; each of them near a threshold."""
        return sum(layer.differing for layer in self.layers.values())

    @property
    def compared_bits(self) -> int:
        """Bits or levels compared, all layers together."""
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
        what = "levels" if any(layer.width > 1 for layer in self.layers.values()) else "bits"
        rows.append(
            f"{self.samples} samples on {self.target}: {self.differing_bits} of "
            f"{self.compared_bits:,} {what} differ, "
            f"arg-max agrees on {self.argmax_agreement}, "
            f"largest relative difference of the result {self.logits_error:.1e}"
        )
        return "\n".join(rows)


def verify(model: nn.Module, path: str | Path, x: Tensor, *, target: str | None = None) -> Report:
    """Prove on a batch that the packed file computes what the model computes.

    Each packed layer gets the bits, levels or floats that the torch layer got. Bits and levels from
    integer sums must be equal. Those from float sums may differ only where the sum is within
    8 * 2^-24 * sum |w| |x| of a threshold (a bias that torch sums along counts as a product);
    they are counted; batch norms, ReLUs and averages in between widen the margin by their own
    rounding. Float results must agree to 1e-5 of the largest result or shift. So must the result
    of the whole file, unless such a bit differed; what floats may be off by grows by the weights
    of the layers that read them, and a bit that only this decides is counted too.

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
    differing_before, drift = report.differing_bits, 0.0
    for segment, ops in zip(lowered.segments, lowered.ranges, strict=True):
        place = _Place(segment, packed, ops, lowered.terms)
        width = 1 if segment.bits is None else segment.bits.levels.bits
        new = LayerReport(segment.name, segment.bits is not None, width)
        done = report.layers.get(segment.name, new)
        if segment.bits is None:
            done, allowed = _compare_floats(place, recorded, done)
            drift = allowed + drift * gain(packed.program, *ops)
        else:
            undisturbed = report.differing_bits == differing_before
            done = _compare_bits(place, recorded, done)
            if drift and undisturbed:
                done = _compare_whole_bits(place, recorded, done, x, drift)
            drift = 0.0
        report.layers[segment.name] = done
    expected = recorded[_result(lowered.chain.traced)].numpy()
    got = packed.run(0, len(packed.program.ops), x.numpy()).astype(np.float32)
    error, largest = _relative(got, expected, _cancelled(lowered, packed))
    if report.differing_bits == differing_before and not error * largest <= drift:
        raise VerifyError(
            f"the results differ by {error:.1e} of the largest, though every layer agrees; "
            f"allowed is {drift / largest:.0e}: please report this as a bug"
        )
    report.samples += len(x)
    report.logits_error = max(report.logits_error, error)
    rows = (len(x), -1)
    agrees = got.reshape(rows).argmax(1) == expected.reshape(rows).argmax(1)
    report.argmax_agreement += int(agrees.sum())


class _Place(NamedTuple):
    """A segment of the model beside its ops of the packed file."""

    segment: Segment
    packed: runtime.Model
    ops: tuple[int, int]
    terms: Terms

    def possible(self, fed: Tensor, drift: float = 0.0) -> Possible:
        """Return which levels the order of summation may lead to, given the segment's input."""
        bias = _inner_bias(self.segment)
        return possible_levels(self.packed.program, *self.ops, fed, bias, self.terms, drift)


def _compare_floats(
    place: _Place, recorded: dict[fx.Node, Tensor], done: LayerReport
) -> tuple[LayerReport, float]:
    """Return the report, and the difference that would have been allowed."""
    segment, packed = place.segment, place.packed
    fed, expected = segment.input(recorded), segment.value(recorded).numpy()
    got = packed.run(*place.ops, _operand(segment, fed))
    shift = cancelled(packed.program, *place.ops, place.terms)
    error, largest = _relative(got, expected, shift)
    if not error <= _RELATIVE:
        raise VerifyError(
            f"{segment.name}: floats differ by {error:.1e} of the largest; allowed is "
            f"{_RELATIVE:.0e}. Was the file packed from this model? Pack it again"
        )
    compared = done.compared + expected.size
    done = replace(done, compared=compared, error=max(done.error, error))
    return done, _RELATIVE * largest


def _compare_bits(place: _Place, recorded: dict[fx.Node, Tensor], done: LayerReport) -> LayerReport:
    segment, fed = place.segment, place.segment.input(recorded)
    got = place.packed.run(*place.ops, _operand(segment, fed))
    expected = segment.value(recorded).numpy()
    possible = place.possible(fed)
    differing = _differing(segment, got, expected, possible)
    return replace(
        done,
        compared=done.compared + expected.size,
        differing=done.differing + differing,
        near_threshold=done.near_threshold + int(possible.open.sum()),
    )


def _compare_whole_bits(
    place: _Place, recorded: dict[fx.Node, Tensor], done: LayerReport, x: Tensor, drift: float
) -> LayerReport:
    """Compare bits that are made of floats which the file itself has computed, from x on.

    Those floats may be off by ``drift``; a bit that this decides counts as one that differs.
    """
    segment = place.segment
    got = place.packed.run(0, place.ops[1], x.numpy())
    expected = segment.value(recorded).numpy()
    possible = place.possible(segment.input(recorded), drift)
    differing = _differing(segment, got, expected, possible)
    return replace(done, differing=done.differing + differing)


def _differing(
    segment: Segment, got: NDArray[Any], expected: NDArray[Any], possible: Possible
) -> int:
    assert segment.bits is not None
    one_bit = segment.bits.levels.bits == 1
    differs = got != expected
    # Of one bit, -1 and +1 are the levels 0 and 1.
    levels = (value > 0 if one_bit else value for value in (got, expected))
    wrong = differs & ~np.logical_and(*map(possible.allows, levels))
    if wrong.any():
        raise VerifyError(
            f"{segment.name}: {int(wrong.sum())} of {expected.size} "
            f"{'bits' if one_bit else 'levels'} differ. "
            "Was the file packed from this model? Pack it again"
        )
    return int(differs.sum())


def _operand(segment: Segment, fed: Tensor) -> NDArray[Any]:
    if segment.fed is None:
        return fed.numpy().astype(np.float32)
    return fed.numpy().astype(np.int8 if segment.fed.levels.bits == 1 else np.uint8)


def _cancelled(lowered: Lowered, packed: runtime.Model) -> float:
    if not lowered.ranges:
        return 0.0
    return cancelled(packed.program, *lowered.ranges[-1], lowered.terms)


def _inner_bias(segment: Segment) -> Tensor | float:
    """Return |bias| of a layer whose torch twin starts its float sum from it, per channel."""
    module = None if segment.head is None else segment.head.module
    bias = None if module is None else bias_of(module)
    if bias is None:
        return 0.0
    return bias.double().abs().reshape(-1, *((1, 1) if isinstance(module, nn.Conv2d) else ()))


def _relative(got: NDArray[Any], expected: NDArray[Any], shift: float) -> tuple[float, float]:
    """Return the largest difference over the largest number, and that number."""
    if not np.isfinite(got).all() or not np.isfinite(expected).all():
        return float("inf"), 1.0
    largest = max(shift, float(np.abs(expected).max(initial=0.0)))
    difference = float(np.abs(got.astype(np.float64) - expected).max(initial=0.0))
    return (difference / largest, largest) if largest else (difference, 1.0)


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
