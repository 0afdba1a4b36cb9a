"""Rules on what a batch does at the quantizers of activations.

Batch norms that have seen no batch use the statistics of this one, as the first training step
does; their own are still those of no data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coarsegrad.inspect import watch
from coarsegrad.inspect.findings import Finding, Measured
from coarsegrad.inspect.graph import is_batch_norm
from coarsegrad.inspect.rules_layer import without_gradient
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer

#: The share of constant channels from which on a layer is reported: a quarter of it is wasted.
#: Some constant features are normal, such as those of the corners of digits.
DEAD = 0.25
#: Samples without which a constant feature says nothing: one that is +1 on 9 of 10 samples is
#: constant on 32 of them with probability 0.03.
SAMPLES = 32
#: The share of inputs with gradient zero from which on a layer is reported. Behind a batch norm
#: 32 % of normal values lie outside [-1, 1]; sums of 100 signs without one, 92 %. At 90 % in two
#: layers, one gradient of a hundred passes both.
SATURATED = 0.9


#: How far the share of positive inputs may be from a half for inputs to count as symmetric.
SYMMETRIC = 0.1


@dataclass(frozen=True)
class Reading:
    """What reached one quantizer.

    Shares of constant channels, of zero derivatives and of positive inputs; the largest input, in
    the unit that its coarse derivative sees.
    """

    name: str
    quantizer: Quantizer
    dead: float
    saturated: float
    positive: float
    bound: float

    @property
    def is_relu(self) -> bool:
        """Whether it is a quantized ReLU, whose lowest level is 0: the case of Assumption 2."""
        return self.quantizer.levels[0] == 0


def read(model: nn.Module, batch: Tensor) -> list[Reading]:
    """Run a copy of a model on a batch and read what reaches each quantizer of activations.

    Args:
        model: a copy in evaluation mode; its running statistics may change.
        batch: (N, ...).

    Raises:
        InputError: the model does not accept the batch.
    """
    found: list[Reading] = []
    named = watch.names(model)
    if isinstance(batch, Tensor) and batch.dim() and len(batch) > 1:
        for module in model.modules():
            if is_batch_norm(module) and not _has_seen_batches(module):
                module.train()

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        name = named(module)
        own = isinstance(module, LatentWeight)
        quantizer = module.input_quantizer if isinstance(module, LatentWeight) else module
        x = watch.first_tensor([args, kwargs])
        if isinstance(quantizer, Quantizer) and x is not None and x.numel():
            last = own and isinstance(module, nn.Linear)
            found.append(_reading(name, quantizer, x, x.dim() - 1 if last else min(1, x.dim() - 1)))

    hooks: list[Any] = []
    for module in watch.leaves(model):
        if isinstance(module, (LatentWeight, Quantizer)):
            assert isinstance(module, nn.Module)
            hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    with watch.removing(hooks):
        watch.run(model, batch, "check")
    return found


def dead_inputs(readings: list[Reading]) -> Iterator[Finding]:
    """Channels that a quantizer maps to one level on the whole batch.

    Source: larq#90; Ding et al. 2019, arXiv:1904.02823, degeneration.
    """
    for reading in readings:
        if reading.dead > DEAD:
            yield Finding(
                reading.name,
                "dead-inputs",
                f"{reading.dead:.0%} of its input channels have one level on the whole batch: "
                "they carry no information, and the weights on them are a constant",
                "look at the batch norm before it (is its shift larger than its spread?) and at "
                "the range of the network's input; lower the learning rate if it was alive once",
                "larq/larq#90; Ding et al. 2019, arXiv:1904.02823",
            )


def saturated_inputs(readings: list[Reading]) -> Iterator[Finding]:
    """Inputs of a quantizer where its coarse derivative is zero.

    Source: larq#90; Ding et al. 2019, arXiv:1904.02823, saturation.
    """
    for reading in readings:
        if reading.saturated > SATURATED:
            yield Finding(
                reading.name,
                "saturated-inputs",
                f"{reading.saturated:.0%} of its inputs lie where {reading.quantizer.ste} is "
                "zero: no gradient passes there, and the layers before it hardly learn",
                "put a batch norm before it, or take a coarse derivative with a wider support",
                "larq/larq#90; Ding et al. 2019, arXiv:1904.02823",
            )


def assumption2(readings: list[Reading]) -> Iterator[Finding]:
    """Coarse derivatives that are not zero below 0, on quantized ReLUs.

    Source: Long, Yin, Xin 2020, arXiv:2011.11256, Assumption 2 and section 8.1.
    """
    for reading in readings:
        if reading.is_relu and not reading.quantizer.ste.vanishes_below_zero:
            yield Finding(
                reading.name,
                "assumption2",
                f"the proxy of {reading.quantizer.ste} is not 0 for x <= 0, where the quantized "
                "ReLU is: the coarse gradient need not point downhill, and does not reach zero "
                "loss in the paper's experiment",
                "use ReLU(), ReverseExp(), LogTailedReLU() or ClippedReLU() from coarsegrad.ste",
                "Long, Yin, Xin 2020, arXiv:2011.11256, Assumption 2",
            )


def one_bit_relu(readings: list[Reading]) -> Iterator[Finding]:
    """Quantized ReLUs of one bit on inputs that lie as often above 0 as below.

    Source: docs/papers/coarse-gradient.md: on a class that is symmetric about 0, x and -x get
    complementary bits, so that no weights make the loss of both zero, and Theorem 3.1 of Long, Yin,
    Xin 2020, arXiv:2011.11256, says nothing.
    """
    for reading in readings:
        even = abs(reading.positive - 0.5) <= SYMMETRIC
        if reading.is_relu and len(reading.quantizer.levels) == 2 and even:
            yield Finding(
                reading.name,
                "one-bit-relu",
                f"its levels are 0 and 1, and {reading.positive:.0%} of its inputs are positive: "
                "for a class that is symmetric about 0, x and -x then get complementary bits, "
                "and no weights bring the loss of both to 0; the convergence theorem is empty",
                "use QuantReLU with 2 bits or more, or a sign, whose levels are symmetric too",
                "Long, Yin, Xin 2020, arXiv:2011.11256, Theorem 3.1; "
                "docs/papers/coarse-gradient.md",
            )


def measured(readings: list[Reading]) -> tuple[Measured, ...]:
    """Return the constants of Assumption 2 for each quantized ReLU, on what reached it."""
    return tuple(
        Measured(reading.name, repr(reading.quantizer.ste), reading.bound,
                 found.delta, found.delta_tilde, found.holds)
        for reading in readings
        if reading.is_relu and 0 < reading.bound < math.inf
        for found in [reading.quantizer.ste.assumption2(reading.bound)]
    )  # fmt: skip


@torch.no_grad()
def _reading(name: str, quantizer: Quantizer, x: Tensor, channel: int) -> Reading:
    levels = quantizer.split(x)[0].movedim(channel, 0).flatten(1)
    constant = (levels == levels[:, :1]).all(1)
    unit = float(getattr(quantizer, "unit", 1.0))
    return Reading(
        name,
        quantizer,
        dead=float(constant.float().mean()),
        saturated=without_gradient(quantizer, x),
        positive=float((x > 0).float().mean()),
        bound=float(x.abs().max()) / unit,
    )


def _has_seen_batches(norm: nn.Module) -> bool:
    seen = getattr(norm, "num_batches_tracked", None)
    return isinstance(seen, Tensor) and bool(seen > 0)
