"""pack: a trained model into a file of bits, thresholds and a few floats."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coarsegrad.deploy.capture import Chain, capture
from coarsegrad.deploy.lower import lower
from coarsegrad.deploy.segments import Segment, segments
from coarsegrad.errors import PackedFileError, PackError
from coarsegrad.packed import Program, write


@dataclass(frozen=True)
class Lowered:
    """A model beside its program: which segment of the one is which ops of the other.

    ``terms`` are those of ``Lowering``.
    """

    chain: Chain
    program: Program
    segments: list[Segment]
    ranges: list[tuple[int, int]]
    terms: dict[str, NDArray[np.float64]]


def pack(model: nn.Module, x: Tensor, path: str | Path) -> Program:
    """Write the packed form of ``model`` to ``path`` and return it.

    The model is evaluated as in ``model.eval()`` and left as it is. 1-bit and ternary weights
    become bits, integer weights of up to 8 bits binary digits, also where a layer's input is float;
    scale, bias, batch norm, ReLU and sign become one threshold per channel, 2^b - 1 of them ahead
    of a quantizer of b bits, found so that exact zeros and rounding fall as torch's own modules
    have them. Where no quantizer follows, batch norm, ReLU and averages stay float32. Levels with a
    scale become floats ahead of a layer that has them not from its own ``input_quantizer``.

    Args:
        model: a chain of coarsegrad.nn or torch.nn Linear and Conv2d, BatchNorm, ReLU, MaxPool2d,
            AvgPool2d, AdaptiveAvgPool2d or a mean over the plane, Flatten, Sign, Heaviside,
            QuantReLU, Identity, Dropout; float32.
        x: an example batch, (N, ...) float32; its shape becomes the file's input shape.
        path: the file to write; a partial file never stays under this name.

    Raises:
        PackError: a layer without a packed form, with its name and the reason.
        OSError: the file cannot be written.

    >>> import tempfile, coarsegrad as cg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "net.cgrad")
    ...     program = pack(cg.models.small_cnn(), torch.zeros(1, 1, 28, 28), path)
    ...     path.stat().st_size <= 13.5 * 1024
    True
    """
    program = to_program(model, x).program
    write(path, program)
    return program


def to_program(model: nn.Module, x: Tensor) -> Lowered:
    """Return the packed form of ``model`` without writing it, and how it maps to the model.

    Raises:
        PackError: a layer without a packed form, with its name and the reason.
    """
    if x.dtype != torch.float32 or not 2 <= x.dim() <= 4 or len(x) == 0:
        raise PackError(
            f"pack needs an example batch, float32 of shape (N, ...) with 1 to 3 dimensions a "
            f"sample, got {x.dtype} {list(x.shape)}"
        )
    try:
        # A copy: capture needs evaluation mode and the CPU, the caller's model stays as it is.
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        _check_numbers(model)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise PackError(
            f"pack needs a model whose parameters exist and can be copied, got "
            f"{type(model).__name__}, which fails with: {error}; run it once, off the meta device"
        ) from error
    x = x.detach().cpu()[:1]
    chain = capture(model, x)
    cut = segments(chain)
    lowering, ranges = lower(chain, cut, chain.record(x))
    try:
        program = Program(tuple(x.shape[1:]), tuple(lowering.ops), lowering.tensors)
    except PackedFileError as error:
        raise PackError(f"the model has no packed form: {error}") from error
    return Lowered(chain, program, cut, ranges, lowering.terms)


def _check_numbers(model: nn.Module) -> None:
    """Refuse NaN, infinity, and other dtypes than float32, by name."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise PackError(f"{name} is {tensor.dtype}; pack needs float32: use model.float()")
        if not bool(torch.isfinite(tensor).all()):
            raise PackError(f"{name} holds NaN or infinity; train again from a checkpoint")
