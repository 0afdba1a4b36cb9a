"""The layers of a network at one precision, so that each architecture is written down once."""

from __future__ import annotations

from typing import final

from torch.nn import BatchNorm1d, BatchNorm2d, Module, ReLU

from coarsegrad.nn import Conv2d, Linear, NormalizedBatchNorm
from coarsegrad.quantizers import Precision, Quantizer, Sign
from coarsegrad.quantizers import precision as quantizers_of
from coarsegrad.ste import CoarseDerivative


@final
class Layers:
    """Makes layers that quantize their own inputs, and the norms between them.

    Before a quantized ReLU stands a ``NormalizedBatchNorm``, the modified batch norm of Long, Yin,
    Xin 2020, arXiv:2011.11256, sec. 8.2: the step is the best one for N(0, 1). Before a sign stands
    torch's batch norm, before float activations torch's and a ReLU.

    Args:
        model: who asks, for messages.
        precision: such as ``"W32A4"``, as in ``quantizers.precision``.
        ste: coarse derivative of the activations; None as there.
        float_ends: float weights in the first layer and the last.

    Raises:
        ValueError: another form of precision; ``float_ends`` or ``ste`` without effect.
    """

    def __init__(
        self, model: str, precision: str, ste: CoarseDerivative | None, *, float_ends: bool = False
    ) -> None:
        self.precision = precision
        self.ste = ste
        made = self._quantizers()
        self.float_last = float_ends or made.weights is None
        if float_ends and made.weights is None:
            raise ValueError(
                f"{model} has float weights throughout at precision {precision!r}, so that "
                "float_ends has no effect; leave it out, or choose W1 to W8"
            )
        if ste is not None and made.inputs is None:
            raise ValueError(
                f"{model} has plain ReLUs at precision {precision!r}, so that ste has no effect; "
                "leave it out, or choose A1 to A8"
            )

    def _quantizers(self) -> Precision:
        return quantizers_of(self.precision, self.ste)

    @property
    def _end(self) -> Quantizer | None:
        return None if self.float_last else self._quantizers().weights

    def first(
        self, inputs: int, outputs: int, kernel: int, *, padding: int = 0, pad_value: int = 0
    ) -> Conv2d:
        """Return the convolution that takes the images as they are."""
        return Conv2d(
            inputs,
            outputs,
            kernel,
            padding=padding,
            bias=False,
            pad_value=pad_value,
            weight_quantizer=self._end,
        )

    def conv(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> Conv2d:
        """Return a convolution without bias; signs are padded by 0, as levels are."""
        made = self._quantizers()
        return Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            bias=False,
            input_quantizer=made.inputs,
            weight_quantizer=made.weights,
        )

    def linear(self, inputs: int, outputs: int) -> Linear:
        """Return a dense layer without bias."""
        made = self._quantizers()
        return Linear(
            inputs,
            outputs,
            bias=False,
            input_quantizer=made.inputs,
            weight_quantizer=made.weights,
        )

    def last(self, inputs: int, outputs: int, *, activated: bool = False) -> list[Module]:
        """Return the last layer: with a bias if its weights are float, else with batch norm.

        Args:
            inputs: numbers a sample.
            outputs: likewise.
            activated: its inputs went through ``activation`` already.
        """
        layer = Linear(
            inputs,
            outputs,
            bias=self.float_last,
            input_quantizer=None if activated else self._quantizers().inputs,
            weight_quantizer=self._end,
        )
        return [layer] if self.float_last else [layer, BatchNorm1d(outputs)]

    def activation(self) -> list[Module]:
        """Return the activation by itself, where no layer has it; ``norm2d`` brings a ReLU."""
        made = self._quantizers().inputs
        return [made] if isinstance(made, Module) else []

    def norm1d(self, channels: int) -> list[Module]:
        """Return what stands between a dense layer and the next layer's activation."""
        return self._norm(BatchNorm1d(channels), channels)

    def norm2d(self, channels: int) -> list[Module]:
        """Return the same behind a convolution."""
        return self._norm(BatchNorm2d(channels), channels)

    def _norm(self, plain: Module, channels: int) -> list[Module]:
        activation = self._quantizers().inputs
        if activation is None:
            return [plain, ReLU()]
        return [plain if isinstance(activation, Sign) else NormalizedBatchNorm(channels)]
