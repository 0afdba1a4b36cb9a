"""Rules on one layer or quantizer at a time; they need neither a trace nor a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from coarsegrad.inspect.findings import Finding
from coarsegrad.inspect.graph import is_quantized
from coarsegrad.nn import LatentWeight
from coarsegrad.quantizers import Quantizer
from coarsegrad.ste import CoarseDerivative

#: The share of latents without gradient from which on a layer is reported: most of them.
FROZEN = 0.5


def unpackable_padding(model: nn.Module) -> Iterator[Finding]:
    """A convolution of a quantized network padded by anything else than 0, 1 or -1.

    Source: compute-engine#541, where the padding decided whether bits stay bits.
    """
    if not any(is_quantized(module) for module in model.modules()):
        return
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        left, right, top, bottom = module._reversed_padding_repeated_twice
        reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        wide = max(top, bottom) > reach[0] or max(left, right) > reach[1]
        if module.padding_mode == "zeros" and not wide:
            continue
        what = (
            f"it pads by {max(top, bottom, left, right)} cells, more than its kernel's reach"
            if module.padding_mode == "zeros"
            else f"its padding_mode is {module.padding_mode!r}"
        )
        yield Finding(
            name,
            "unpackable-padding",
            f"{what}: the model cannot be packed",
            "use padding_mode='zeros' with pad_value 0, 1 or -1, and at most "
            "dilation * (kernel_size - 1) cells",
            "larq/compute-engine#541",
        )


def data_dependent_scale(model: nn.Module) -> Iterator[Finding]:
    """An activation quantizer whose scale is computed from each input.

    Source: qkeras#134, alpha="auto" at deployment; XNOR-Net's K (arXiv:1603.05279, eq. 11).
    """
    for name, quantizer in _activations(model):
        if _is_data_dependent(quantizer):
            yield Finding(
                name,
                "data-dependent-scale",
                "its scale is computed from each input, which no packed file can hold",
                "use scale='none': the batch norm that follows absorbs a scale",
                "google/qkeras#134",
            )


def shared_quantizer(model: nn.Module) -> Iterator[Finding]:
    """One quantizer object in several layers, or for both operands of one.

    Source: larq zoo#148, a metric that broke on it.
    """
    places: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, LatentWeight):
            for kind in ("input_quantizer", "weight_quantizer"):
                quantizer = getattr(module, kind)
                if quantizer is not None:
                    places[id(quantizer)].append(f"{name}.{kind}" if name else kind)
    for first, *others in places.values():
        if others:
            yield Finding(
                first,
                "shared-quantizer",
                f"the same object is {_listed(others)}: whatever one place learns, measures or "
                "changes (a scale, a hook, another ste) happens to all, and the state_dict "
                "repeats it",
                "make one for each place; in a loop, build it inside",
                "larq/zoo#148",
            )


def frozen_latents(model: nn.Module) -> Iterator[Finding]:
    """Most latent weights beyond the support of their coarse derivative.

    Source: Courbariaux et al. 2016, arXiv:1602.02830, section 1.2: why they clip.
    """
    for name, module in model.named_modules():
        if not isinstance(module, LatentWeight):
            continue
        ste = getattr(module.weight_quantizer, "ste", None)
        if not isinstance(ste, CoarseDerivative) or not isinstance(module.weight, Tensor):
            continue
        assert module.weight_quantizer is not None
        share = without_gradient(module.weight_quantizer, module.weight)
        if share > FROZEN:
            yield Finding(
                name,
                "frozen-latents",
                f"{share:.0%} of its latent weights lie where {ste} is zero: their gradient is "
                "zero and their bits are fixed",
                "start them inside [-1, 1] and keep them there with an optimizer that has a "
                "box, or use Sign(ste=Identity()) for weights",
                "Courbariaux et al. 2016, arXiv:1602.02830, section 1.2",
            )


def without_gradient(quantizer: Quantizer, x: Tensor) -> float:
    """Return the share of x for which a quantizer's levels pass no gradient back."""
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        levels = quantizer.split(x)[0]
        if not levels.requires_grad:
            # A quantizer that leaves its coarse derivative to others.
            return float((quantizer.ste.derivative(x.detach()) == 0).float().mean())
        (gradient,) = torch.autograd.grad(levels.sum(), x)
    return float((gradient == 0).float().mean())


def _is_data_dependent(quantizer: Quantizer) -> bool:
    """Whether it says so, or, if it says nothing, whether twice the input has another scale."""
    stated = getattr(quantizer, "data_dependent", None)
    if stated is not None:
        return bool(stated)
    x = torch.tensor([[-2.0, -0.6, 0.0, 0.6, 2.0]])
    first, second = quantizer.split(x)[1], quantizer.split(2 * x)[1]
    return first is not None and second is not None and not torch.equal(first, second)


def _activations(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    """Yield every quantizer of activations with its name."""
    inside = set[int]()
    for name, module in model.named_modules():
        if isinstance(module, LatentWeight):
            inside |= {id(module.input_quantizer), id(module.weight_quantizer)}
            if module.input_quantizer is not None:
                yield f"{name}.input_quantizer", module.input_quantizer
        elif isinstance(module, Quantizer) and id(module) not in inside:
            yield name, module


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
