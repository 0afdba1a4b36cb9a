"""What quantized layers share: a latent weight, its quantizer, and the input's quantizer."""

from __future__ import annotations

import torch
from torch import Tensor

from coarsegrad.quantizers import Quantizer, binary_sign


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
        """The float weight that the optimizer updates; its levels are ``weight_levels``."""
        return self.weight

    @property
    def weight_levels(self) -> Tensor:
        """The levels the forward pass uses, such as -1.0 and +1.0; shape of ``weight``.

        Raises:
            ValueError: the layer has no ``weight_quantizer``: its weights are float.
        """
        return self._split_weight("weight_levels")

    @property
    def weight_binary(self) -> Tensor:
        """``weight_levels`` of 1-bit weights: -1.0 or +1.0 for ``Sign``.

        Raises:
            ValueError: the layer's weights are float, or cost more than one bit.
        """
        levels = self._split_weight("weight_binary")
        assert self.weight_quantizer is not None
        if self.weight_quantizer.bits != 1:
            raise ValueError(
                f"weight_binary needs 1-bit weights, got {_precision(self.weight_quantizer)} "
                f"weights on the levels {self.weight_quantizer.levels}; use weight_levels"
            )
        return levels

    @torch.no_grad()
    def _split_weight(self, asked: str) -> Tensor:
        if self.weight_quantizer is None:
            raise ValueError(
                f"{asked} needs a layer with a weight_quantizer, got {self!r}; "
                "build it with weight_quantizer=Sign()"
            )
        return self.weight_quantizer.split(self.weight)[0]

    def _set_quantizers(self, inputs: Quantizer | None, weights: Quantizer | None) -> None:
        name = type(self).__name__
        for argument, quantizer in (("input_quantizer", inputs), ("weight_quantizer", weights)):
            if quantizer is not None and not isinstance(quantizer, Quantizer):
                raise TypeError(
                    f"{name} needs {argument} to be a quantizer object or None, "
                    f"got {quantizer!r}; for example Sign(ste=ClippedIdentity())"
                )
        if getattr(inputs, "weights_only", False):
            raise ValueError(
                f"{name} got an input_quantizer that is for weights only, {inputs!r}: a scale per "
                "channel and the threshold 'twn' are a weight's; allowed here: one scale ('none', "
                "'tensor', 'learned') and a threshold that is a number"
            )
        channels, size = getattr(weights, "channels", None), self.weight.shape[0]
        if channels not in (None, size):
            raise ValueError(
                f"{name} has {size} output channels, got a weight_quantizer with a learned scale "
                f"for each of {channels}; give it channels={size}, or one scale: channels=None"
            )
        operands: tuple[object, object] = (inputs, weights)
        for operand in operands:
            if isinstance(operand, torch.nn.Module):
                # A learned scale lives where the weight lives, device and dtype.
                operand.to(self.weight)
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
            text += f", {_precision(self.weight_quantizer)} weights (latent {dtype})"
        if self.input_quantizer is not None:
            text += f", {_precision(self.input_quantizer)} inputs"
        return text


def _precision(quantizer: Quantizer) -> str:
    return "ternary" if len(quantizer.levels) == 3 else f"{quantizer.bits}-bit"


@torch.no_grad()
def binarize_latents_(model: torch.nn.Module) -> torch.nn.Module:
    """Replace every latent weight by its sign, -1 or +1 with sign(0) = +1, in place.

    ``optim.Bop`` flips such weights and refuses others. Where a weight quantizer has a scale taken
    from the latent weights, that scale becomes 1.

    Returns:
        The model.

    Raises:
        ValueError: the model has no latent weight, or one whose levels are not -1 and +1.

    >>> from coarsegrad.models import mlp
    >>> binarize_latents_(mlp())[1].latent.detach().abs().unique()
    tensor([1.])
    """
    latents = []
    for path, module in model.named_modules():
        quantizer = getattr(module, "weight_quantizer", None)
        if quantizer is not None and tuple(quantizer.levels) != (-1.0, 1.0):
            raise ValueError(
                f"binarize_latents_ needs weights on the levels (-1, 1), but {path or 'the model'} "
                f"has {_precision(quantizer)} weights on {quantizer.levels}; build it with "
                "weight_quantizer=Sign(), or train it with a rule that does not flip weights"
            )
        latents += [module.get_parameter(name) for name in getattr(module, "latent_names", ())]
    if not latents:
        raise ValueError(
            "binarize_latents_ needs a model with latent weights, got none in "
            f"{type(model).__name__}; build its layers with weight_quantizer=Sign()"
        )
    for latent in latents:
        latent.copy_(binary_sign(latent))
    return model
