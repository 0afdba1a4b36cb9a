"""A tanh recurrent network on a Markov chain, trained on one batch, its smoothness measured.

A stand-in, in seconds, for the paper's LSTM on Penn Treebank: a gradient that goes through twenty
products of one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from torch import Tensor, nn

SYMBOLS, LENGTH, UNITS, BATCH = 10, 20, 24, 32


@final
@dataclass(frozen=True)
class Training:
    """One training: ``clipped`` (eta .5, gamma .25) or plain descent (.1), and a weight scale."""

    clipped: bool
    scale: float

    def __str__(self) -> str:
        method = "clipped" if self.clipped else "plain"
        return f"RNN {method}, weights x{self.scale:g}"


def follow(
    training: Training, steps: int, every: int, show: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Train on the whole batch, float64, and yield what each ``every``-th step measured.

    Raises:
        DivergenceError: the loss or a gradient is not finite.
    """
    import torch
    from torch.nn import functional as F

    from coarsegrad.optim import ClippedSGD
    from coarsegrad.train import local_smoothness

    net = network(training.scale)
    data = sequences()
    inputs = F.one_hot(data[:, :-1], SYMBOLS).double()

    def loss(model: nn.Module) -> Tensor:
        logits = model[1](model[0](inputs)[0])  # type: ignore[index]
        return F.cross_entropy(logits.flatten(0, 1), data[:, 1:].flatten())

    optimizer: torch.optim.Optimizer = (
        ClippedSGD(net.parameters(), lr=0.5, max_norm=0.25)
        if training.clipped
        else torch.optim.SGD(net.parameters(), lr=0.1)
    )
    for step in range(steps):
        optimizer.zero_grad()
        loss(net).backward()
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        optimizer.step()
        if step % every == 0:
            after = {name: p.detach() for name, p in net.named_parameters()}
            found = local_smoothness(net, loss, before, after, hessian=5)
            yield {
                "setting": str(training), "step": step, "loss": found.loss,
                "gradient": found.gradient, "smoothness": found.smoothness,
                "hessian": found.hessian, "step_length": found.step,
            }  # fmt: skip
            if step % (20 * every) == 0:
                show(f"  {training}, step {step}: loss {found.loss:.2f}")


def network(scale: float) -> nn.Sequential:
    """Return the network, weights N(0, scale^2 / fan_in) of seed 0, biases 0."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        net = torch.nn.Sequential(
            torch.nn.RNN(SYMBOLS, UNITS, batch_first=True), torch.nn.Linear(UNITS, SYMBOLS)
        ).double()
    with torch.no_grad():
        for p in net.parameters():
            drawn = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.copy_(drawn * scale / math.sqrt(p.shape[1]) if p.dim() > 1 else 0 * drawn)
    return net


def sequences() -> Tensor:
    """Return (32, 21) symbols of a chain that goes on from each to two others, 3 : 1."""
    import torch

    generator = torch.Generator().manual_seed(1)
    chain = torch.full((SYMBOLS, SYMBOLS), 1e-3)
    for k in range(SYMBOLS):
        first, second = torch.randperm(SYMBOLS, generator=generator)[:2].tolist()
        chain[k, first], chain[k, second] = 0.75, 0.25
    at = torch.randint(SYMBOLS, (BATCH,), generator=generator)
    walk = [at]
    for _ in range(LENGTH):
        at = torch.multinomial(chain[at], 1, generator=generator)[:, 0]
        walk.append(at)
    return torch.stack(walk, dim=1)
