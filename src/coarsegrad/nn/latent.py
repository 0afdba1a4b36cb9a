"""What quantized layers share: a latent weight, its quantizer, and the input's quantizer."""

from __future__ import annotations

import torch
from torch import Tensor

from coarsegrad.quantizers import Quantizer, Sign, binary_sign


class LatentWeight(torch.nn.Module):
    """Abstract: a torch layer whose ``weight`` is latent, that is, quantized on the way in.

    The optimizer updates the latent float weight; the forward pass sees only its levels. The
    layer computes ``scale * (levels(x) (*) levels(weight)) + bias``: the scale multiplies the
    output, so that every sum is an exact integer times one number.
    """

    weight: Tensor
    input_quantizer: Quantizer | None
    weight_quantizer: Quantizer | None

    @property
    def latent_names(self) -> tuple[str, ...]:
        """The names of this layer's latent parameters, read by ``optim.param_groups``.

        A property of the class, since an attribute set on a Parameter is lost by deepcopy.
        """
        return () if self.weight_quantizer is None else ("weight",)

    @property
    def latent(self) -> Tensor:
        """The float weight that the optimizer updates; its levels are ``weight_binary``."""
        return self.weight

    @property
    def weight_binary(self) -> Tensor:
        """The levels the forward pass uses, -1.0 or +1.0 for ``Sign``; shape of ``weight``.

        Raises:
            ValueError: the layer has no ``weight_quantizer``: its weights are float.
        """
        if self.weight_quantizer is None:
            raise ValueError(
                f"weight_binary needs a layer with a weight_quantizer, got {self!r}; "
                "build it with weight_quantizer=Sign()"
            )
        with torch.no_grad():
            return self.weight_quantizer.split(self.weight)[0]

    def _set_quantizers(self, inputs: Quantizer | None, weights: Quantizer | None) -> None:
        for argument, quantizer in (("input_quantizer", inputs), ("weight_quantizer", weights)):
            if quantizer is not None and not isinstance(quantizer, Quantizer):
                raise TypeError(
                    f"{type(self).__name__} needs {argument} to be a quantizer object or None, "
                    f"got {quantizer!r}; for example Sign(ste=ClippedIdentity())"
                )
        if isinstance(inputs, Sign) and inputs.scale == "channel":
            raise ValueError(
                f"{type(self).__name__} got an input_quantizer with scale='channel', which is "
                "one number per output channel of a weight; allowed here: 'none', 'tensor'"
            )
        self.input_quantizer = inputs
        self.weight_quantizer = weights

    @property
    def _bias_after_sum(self) -> bool:
        """Whether the bias waits for the sum: started from a bias, an integer sum would round."""
        return self.input_quantizer is not None or self.weight_quantizer is not None

    def _operands(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return (input levels, weight levels, scales of the output; channels in dim 0)."""
        scales: list[Tensor] = []
        weight: Tensor = self.weight
        if self.input_quantizer is not None:
            x, scale = self.input_quantizer.split(x)
            scales += [] if scale is None else [scale]
        if self.weight_quantizer is not None:
            weight, scale = self.weight_quantizer.split(weight)
            scales += [] if scale is None else [scale]
        return x, weight, scales

    def _describe(self, text: str) -> str:
        """Extend torch's ``extra_repr`` by what is quantized."""
        if self.weight_quantizer is not None:
            dtype = str(self.weight.dtype).removeprefix("torch.")
            text += f", {self.weight_quantizer.bits}-bit weights (latent {dtype})"
        if self.input_quantizer is not None:
            text += f", {self.input_quantizer.bits}-bit inputs"
        return text


@torch.no_grad()
def binarize_latents_(model: torch.nn.Module) -> torch.nn.Module:
    """Replace every latent weight by its sign, -1 or +1 with sign(0) = +1, in place.

    ``optim.Bop`` flips such weights and refuses others. Where a weight quantizer has a scale taken
    from the latent weights, that scale becomes 1.

    Returns:
        The model.

    Raises:
        ValueError: the model has no latent weight.

    >>> from coarsegrad.models import mlp
    >>> binarize_latents_(mlp())[1].latent.detach().abs().unique()
    tensor([1.])
    """
    latents = [
        module.get_parameter(name)
        for module in model.modules()
        for name in getattr(module, "latent_names", ())
    ]
    if not latents:
        raise ValueError(
            "binarize_latents_ needs a model with latent weights, got none in "
            f"{type(model).__name__}; build its layers with weight_quantizer=Sign()"
        )
    for latent in latents:
        latent.copy_(binary_sign(latent))
    return model
