"""Where the bytes of the packed file go, and which kernel each layer gets; no file is written."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from coarsegrad import deploy
from coarsegrad.errors import PackError
from coarsegrad.inspect.watch import Shape
from coarsegrad.nn import LatentWeight
from coarsegrad.packed import Conv, Linear, runs_on_bits
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
    kernels: dict[str, Kernel] = {
        op.name: "bits" if runs_on_bits(program, index) else "float"
        for index, op in enumerate(program.ops)
        if isinstance(op, (Conv, Linear))
    }
    return FileSizes(dict(tensors), kernels, len(to_bytes(program)) - sum(tensors.values()))


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
