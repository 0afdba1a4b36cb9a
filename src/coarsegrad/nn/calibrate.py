"""Steps of all quantized ReLUs of a model, from one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from coarsegrad.errors import CalibrationError
from coarsegrad.nn.latent import LatentWeight
from coarsegrad.quantizers import QuantReLU


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batch: Tensor | tuple[Tensor, ...],
    method: Literal["mse", "lloyd-max"] = "mse",
) -> dict[str, QuantReLU]:
    """Fit the step of every quantized ReLU of a model to the inputs that a batch gives it.

    Each is fitted before its values go on, so that those behind see quantized inputs, as they will.
    Batch norms use the statistics of this batch, as the first training step does: running ones may
    be those of float weights. They are left as they are, and so is everything else.

    Args:
        model: any model; quantized ReLUs are found in its layers and as modules of their own.
        batch: its input, or a tuple of its inputs; 32 samples or more say enough.
        method: as in ``QuantReLU.calibrate``.

    Returns:
        The quantizers that were fitted, by the name of the layer, or of the module itself. One
        that the model runs more than once is fitted to its first input.

    Raises:
        CalibrationError: the model has no quantized ReLU, does not run on the batch, or gives one
            of them no two different positive numbers (a ValueError); nothing was changed.

    >>> from coarsegrad.nn import Linear
    >>> net = nn.Sequential(Linear(8, 4, input_quantizer=QuantReLU(2)))
    >>> x = torch.arange(800.0).reshape(100, 8) / 800
    >>> {name: round(q.step.item(), 2) for name, q in calibrate(net, x).items()}
    {'0': 0.25}
    """
    places = _places(model)
    if not places:
        raise CalibrationError(
            f"calibrate needs a model with a QuantReLU, got {type(model).__name__} without one; "
            "build its layers with input_quantizer=QuantReLU(bits)"
        )
    inputs = batch if isinstance(batch, tuple) else (batch,)
    done: dict[str, QuantReLU] = {}
    with _restored_unless_done(places), _batch_statistics(model), _hooks(places, method, done):
        try:
            model(*inputs)
        except (RuntimeError, ValueError, TypeError) as error:
            sizes = ", ".join(str(list(x.shape)) for x in inputs if isinstance(x, Tensor))
            raise CalibrationError(f"calibrate cannot use this batch ({sizes}): {error}") from error
    return done


def _places(model: nn.Module) -> dict[nn.Module, tuple[str, QuantReLU]]:
    """Return the modules whose input a quantized ReLU gets, each with its name."""
    found: dict[nn.Module, tuple[str, QuantReLU]] = {}
    inside = set()
    for name, module in model.named_modules():
        if isinstance(module, LatentWeight) and isinstance(module.input_quantizer, QuantReLU):
            found[module] = (name, module.input_quantizer)
            inside.add(module.input_quantizer)
        elif isinstance(module, QuantReLU) and module not in inside:
            found[module] = (name, module)
    return found


@contextmanager
def _hooks(
    places: dict[nn.Module, tuple[str, QuantReLU]],
    method: Literal["mse", "lloyd-max"],
    done: dict[str, QuantReLU],
) -> Iterator[None]:
    def fit(module: nn.Module, args: tuple[Any, ...]) -> None:
        name, quantizer = places[module]
        if name not in done:
            try:
                quantizer.calibrate(args[0], method)
            except ValueError as error:
                raise CalibrationError(f"{name or 'the model'}: {error}") from error
            done[name] = quantizer

    handles = [module.register_forward_pre_hook(fit) for module in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _restored_unless_done(places: dict[nn.Module, tuple[str, QuantReLU]]) -> Iterator[None]:
    before = {q: {k: v.clone() for k, v in q.state_dict().items()} for _, q in places.values()}
    try:
        yield
    except BaseException:
        for quantizer, state in before.items():
            quantizer.load_state_dict(state)
        raise


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Run in evaluation mode, batch norms on the batch; modes and statistics come back."""
    modes = {module: module.training for module in model.modules()}
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    state = [{k: v.clone() for k, v in norm._buffers.items() if v is not None} for norm in norms]
    model.eval()
    for norm in norms:
        norm.training = True
    try:
        yield
    finally:
        for norm, buffers in zip(norms, state, strict=True):
            for key, value in buffers.items():
                getattr(norm, key).copy_(value)
        for module, mode in modes.items():
            module.training = mode
