r"""Evaluation at averaged latents: an EMA of latent weights, its signs, fresh batch statistics.

::

    ema += a_t (w - ema),   a_t = (1 - decay) / (1 - decay^t),   after optimizer step t = 1, 2, ...

a_1 = 1, so the random initial weights have no part in the average: this is the bias-corrected
EMA, without a correction to remember. It is a convex combination and stays in any box.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coarsegrad.data import Images, pixels

_BATCH = 500


def latents(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's latent parameters by name, each once; ``latent_names`` says which.

    >>> from coarsegrad.models import mlp
    >>> list(latents(mlp()))
    ['1.weight', '3.weight', '5.weight']
    """
    found: dict[nn.Parameter, str] = {}
    for path, module in model.named_modules():
        for name in getattr(module, "latent_names", ()):
            found.setdefault(module.get_parameter(name), f"{path}.{name}" if path else name)
    return {name: w for w, name in found.items()}


@final
class LatentEMA:
    """The bias-corrected EMA of a model's latent weights, float32 (float64 for float64 ones).

    Args:
        model: its modules name their latent weights; the model is not kept.
        decay: share of the old average that stays in a step, in (0, 1).

    Raises:
        ValueError: ``decay`` out of range, or no latent weight.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> layer.latent_names = ("weight",)
    >>> ema = LatentEMA(layer, decay=0.5)
    >>> for value in (5.0, 2.0):
    ...     _ = layer.weight.data.fill_(value); ema.update(layer)
    >>> ema.values["weight"]                               # (0.5 * 5 + 2) / (0.5 + 1)
    tensor([[3.]])
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        check_decay(decay)
        self.decay = decay
        self.steps = 0
        self.values: dict[str, Tensor] = {
            name: torch.zeros_like(w, dtype=torch.promote_types(w.dtype, torch.float32))
            for name, w in latents(model).items()
        }
        if not self.values:
            raise ValueError(
                "LatentEMA needs a model with latent weights, got none in "
                f"{type(model).__name__}; build its layers with weight_quantizer=Sign()"
            )

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are after an optimizer step."""
        self.steps += 1
        rate = (1 - self.decay) / (1 - self.decay**self.steps)
        now = latents(model)
        for name, value in self.values.items():
            value.lerp_(now[name].to(value.dtype), rate)

    def state_dict(self) -> dict[str, Any]:
        """Return decay, count of steps and averages."""
        return {
            "decay": self.decay,
            "steps": self.steps,
            "values": {name: value.clone() for name, value in self.values.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; the averages come to the devices of the present ones.

        Raises:
            ValueError: the state is of other weights or another decay.
        """
        shapes = {name: tuple(value.shape) for name, value in self.values.items()}
        others = {name: tuple(value.shape) for name, value in state["values"].items()}
        if shapes != others or state["decay"] != self.decay:
            raise ValueError(
                f"LatentEMA needs a state of decay {self.decay} and latent weights {shapes}, got "
                f"decay {state['decay']} and {others}; go on with the model and decay it is of"
            )
        self.steps = int(state["steps"])
        for name, value in state["values"].items():
            self.values[name].copy_(value)


@torch.no_grad()
def averaged(
    model: nn.Module, values: Mapping[str, Tensor], batches: Iterable[Tensor]
) -> nn.Module:
    """Return a copy of the model at averaged latents, in evaluation mode; the model stays as it is.

    Where an average is exactly 0 the present weight stands. A tensor of weights that are all -1
    or +1 (Bop flips those) takes the sign of its average, a vote, so that scales stay 1. Real
    parameters are those of the model. Batch norm's statistics are estimated anew: the mean, over
    the batches, of each one's mean and variance; everything else is in evaluation mode meanwhile,
    so nothing drops out. Torch's random state is left as it was.

    Args:
        model: any module whose layers name their latent weights.
        values: name -> average, as ``LatentEMA.values``.
        batches: inputs for the statistics, moved to the model's device; equal sizes weigh images
            equally. Not read if the model has no batch norm.

    Raises:
        ValueError: ``values`` are of other weights, or batch norm finds no batch.

    >>> from coarsegrad.models import mlp
    >>> net = mlp()
    >>> flipped = {name: -w.detach() for name, w in latents(net).items()}
    >>> twin = averaged(net, flipped, [torch.randn(8, 1, 28, 28)])
    >>> bool((twin[1].weight_binary == -net[1].weight_binary).all()), net.training, twin.training
    (True, True, False)
    """
    net = copy.deepcopy(model).eval()
    weights = latents(net)
    if weights.keys() != values.keys():
        raise ValueError(
            f"averaged needs averages of the latent weights {', '.join(weights)}, got "
            f"{', '.join(values) or 'none'}; give the values of this model's LatentEMA"
        )
    for name, w in weights.items():
        w.copy_(_at_average(w, values[name]))
    estimate_statistics(net, batches)
    return net


def statistics_batches(images: Images, count: int, seed: int) -> Iterator[Tensor]:
    """Yield ``count`` images (or all there are) in even batches of at most 500: float32 (B, ...).

    A permutation of the seed chooses them, the same ones in the same order at every call: data
    sets may be sorted by class.
    """
    words = np.random.Philox(key=seed).random_raw(len(images))
    order = words.argsort(kind="stable")[:count]
    for part in np.array_split(order, math.ceil(len(order) / _BATCH)):
        yield torch.from_numpy(pixels(images.x[part]))


def check_decay(decay: float) -> None:
    """Refuse a decay outside (0, 1) by a ValueError."""
    if not 0 < decay < 1:
        raise ValueError(
            f"the average of latents needs a decay in (0, 1), got {decay!r}; 0.99 averages over "
            "about 100 steps"
        )


def _at_average(w: Tensor, average: Tensor) -> Tensor:
    average = average.to(w.device, torch.promote_types(w.dtype, torch.float32))
    if bool((w.abs() == 1).all()):
        average = average.sign()
    return torch.where(average == 0, w, average.to(w.dtype))


def estimate_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate batch norm's statistics anew, in place, as ``averaged`` says; the net is in eval().

    Raises:
        ValueError: batch norm finds no batch.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    devices = sorted({p.device.index for p in net.parameters() if p.is_cuda})
    device = next(net.parameters()).device
    count = 0
    with torch.random.fork_rng(devices=devices):
        for count, x in enumerate(batches, 1):  # noqa: B007
            net(x.to(device))
    if not count:
        raise ValueError(
            "the statistics of batch norm need at least one batch, got none; give "
            "training images, as they are without augmentation"
        )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
