"""Where the bytes of the packed file go, and which kernel each layer gets; no file is written."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from coarsegrad import deploy
from coarsegrad.errors import PackError
from coarsegrad.inspect.watch import Shape
from coarsegrad.nn import LatentWeight
from coarsegrad.packed import Conv, Linear, Program
from coarsegrad.packed.writer import to_bytes

Kernel = Literal["bits", "float"]

# The tensors of a layer that depend on what follows it.
_OF_THE_TAIL = (".threshold", ".flip", ".affine")


@dataclass(frozen=True)
class FileSizes:
    """The packed file: bytes of its tensors by owner, kernels by layer, and the rest."""

    tensors: dict[str, int]
    kernels: dict[str, Kernel]
    header: int

    @property
    def total(self) -> int:
        """The file's size."""
        return self.header + sum(self.tensors.values())


def file_sizes(model: nn.Module, x: Tensor) -> FileSizes:
    """Return the sizes of the file that ``deploy.pack`` would write.

    Raises:
        PackError: the model has no packed form.
    """
    program = deploy.to_program(model, x).program
    tensors: dict[str, int] = defaultdict(int)
    for name, array in program.tensors.items():
        tensors[name.rpartition(".")[0]] += array.nbytes
    kernels = {
        op.name: kernel(program, index)
        for index, op in enumerate(program.ops)
        if isinstance(op, (Conv, Linear))
    }
    return FileSizes(dict(tensors), kernels, len(to_bytes(program)) - sum(tensors.values()))


def kernel(program: Program, index: int) -> Kernel:
    """Return which kernel the native runtime gives the conv or linear op at ``index``."""
    op = program.ops[index]
    assert isinstance(op, (Conv, Linear))
    bits = program.values[index].kind == "bits"
    packed = program.tensors[f"{op.name}.weight"].dtype == np.uint8
    # Channels of a group share words of bits with their neighbours unless they fill whole bytes.
    whole_bytes = not isinstance(op, Conv) or op.groups == 1 or op.shape[1] % 8 == 0
    return "bits" if bits and packed and whole_bytes else "float"


def weight_bytes(layer: nn.Module, input_shape: Shape) -> int | None:
    """Return the bytes of a layer's weights in a packed file, or None if they have no form there.

    For layers of models that cannot be packed: their thresholds depend on what follows.
    """
    alone = copy.deepcopy(layer)
    if isinstance(alone, LatentWeight):
        alone.input_quantizer = None
    try:
        program = deploy.to_program(nn.Sequential(alone), torch.zeros(1, *input_shape[1:])).program
    except PackError:
        return None
    return sum(
        array.nbytes for name, array in program.tensors.items() if not name.endswith(_OF_THE_TAIL)
    )
