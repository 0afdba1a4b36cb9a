"""Weights of several bits on levels that are equally far apart, 0 among them."""

from __future__ import annotations

from typing import Literal, final, get_args

import torch
from torch import Tensor

from coarsegrad.errors import nearest
from coarsegrad.quantizers.checks import check_bits, check_floating, check_ste, check_step
from coarsegrad.quantizers.gaussian import gaussian_step
from coarsegrad.quantizers.scale import mean_of_slices, over_slices
from coarsegrad.quantizers.sign import binary_sign
from coarsegrad.ste import CoarseDerivative, Identity, coarse

WeightScale = Literal["tensor", "channel", "learned"]
"""How a quantizer of weights finds its step; ``QuantWeight`` says what each word means."""


@final
class QuantWeight(torch.nn.Module):
    r"""Symmetric uniform weights, onto -M, ..., 0, ..., M times a step, M = 2^(bits-1) - 1.

    .. math:: q(w) = \tau\,\mathrm{clamp}(\mathrm{round}(w/\tau), -M, M), \qquad
        \partial q / \partial w = g'(w/\tau)

    The step is c_b rms(w), over the tensor or per slice of dimension 0, a weight's output channel,
    a constant of the backward pass; c_b = ``gaussian_step(bits)`` is the one of least squared error
    for normally distributed weights. Or it is learned, as in LSQ (Esser et al. 2020,
    arXiv:1902.08153), with the derivative l - (w/tau) g'(w/tau) 1{|w/tau| <= M}, times
    1 / sqrt(n M) for n weights; no gradient passes to w beyond M steps then. One bit is the sign,
    onto -1 and +1, with c_1 rms(w).

    Args:
        bits: 1 to 8.
        scale: ``channel``, ``tensor`` or ``learned``.
        ste: the coarse derivative g'; it sees w / tau. ``Identity()`` unless given.
        step: with ``learned``, where the step starts, > 0; ``calibrate`` sets it from a weight.
        channels: with ``learned``, a step for each of so many output channels; one unless given.

    Raises:
        ValueError: ``bits`` is no int in 1..8, another word for ``scale``, ``step`` not finite and
            > 0, ``step`` or ``channels`` without ``learned``; the input is not floating point or
            ``ste`` no coarse derivative (ArgumentError, a TypeError too).

    >>> QuantWeight(3, scale="tensor").split(torch.tensor([-2.0, -0.3, 0.1, 1.0]))
    (tensor([-3., -0.,  0.,  1.]), tensor(0.7348))
    """

    weights_only: bool = True
    step: torch.nn.Parameter | None

    def __init__(
        self,
        bits: int,
        scale: WeightScale = "channel",
        ste: CoarseDerivative | None = None,
        *,
        step: float | None = None,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.bits = check_bits("QuantWeight", bits)
        if scale not in get_args(WeightScale):
            raise ValueError(
                f"QuantWeight needs scale to be one of {', '.join(get_args(WeightScale))}, got "
                f"{scale!r}." + nearest(str(scale), get_args(WeightScale))
            )
        if scale != "learned" and (step is not None or channels is not None):
            raise ValueError(
                f"QuantWeight takes step and channels only with scale='learned', got {scale!r} "
                f"with step={step!r}, channels={channels!r}; leave them out, or learn the step"
            )
        if channels is not None and (type(channels) is not int or channels < 1):
            raise ValueError(
                "QuantWeight needs channels to be the weight's number of output channels, or None "
                f"for one step, got {channels!r}"
            )
        example = "QuantWeight(4, ste=Identity())"
        self.ste = Identity() if ste is None else check_ste("QuantWeight", ste, example)
        self.scale: WeightScale = scale
        self.channels = channels
        start = 0.1 if step is None else check_step("QuantWeight", step)
        parameter = None
        if scale == "learned":
            shape = () if channels is None else (channels,)
            parameter = torch.nn.Parameter(torch.full(shape, start))
        self.register_parameter("step", parameter)
        # Found here, once: torch.compile cannot trace the search.
        self._factor = gaussian_step(bits)

    @property
    def top(self) -> int:
        """The highest level, 2^(bits-1) - 1, and 1 for one bit."""
        return max(1, (1 << self.bits - 1) - 1)

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels -M, ..., M; -1 and +1 for one bit."""
        every = range(-self.top, self.top + 1)
        return tuple(float(level) for level in every if self.bits > 1 or level)

    @property
    def data_dependent(self) -> bool:
        """Whether the step is computed from each tensor."""
        return self.scale != "learned"

    @property
    def per_channel(self) -> bool:
        """Whether each slice of dimension 0 has a step of its own."""
        return self.scale == "channel" or self.channels is not None

    def split(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return (levels, step): w's shape and dtype; step 0-d or (dim 0,).

        Raises:
            ArgumentError: w is not floating point.
        """
        check_floating("QuantWeight", w)
        if self.step is None:
            step = self._fitted(w.detach())
        else:
            factor = (w.numel() / self.step.numel() * self.top) ** -0.5
            step = self.step.to(w.dtype)
            step = step.detach() + (step - step.detach()) * factor
        u = w / over_slices(step, w)
        if self.step is not None:
            # LSQ: beyond the outer levels, no gradient for w, and l for the step.
            u = u.clamp(-self.top, self.top)
        return coarse(u, self._cut, self.ste), step

    def _cut(self, u: Tensor) -> Tensor:
        if self.bits == 1:
            return binary_sign(u)
        return torch.round(u).clamp_(-self.top, self.top)

    def _fitted(self, w: Tensor) -> Tensor:
        # In float32 at least: squares underflow float16.
        wide = w.to(torch.promote_types(w.dtype, torch.float32))
        rms = mean_of_slices(wide.square(), self.per_channel).sqrt()
        # Any step fits an all-zero slice; 1 keeps its levels 0 rather than NaN.
        return torch.where(rms > 0, rms * self._factor, 1.0).to(w.dtype)

    def forward(self, w: Tensor) -> Tensor:
        """Return levels * step, in w's shape and dtype."""
        levels, step = self.split(w)
        return levels * over_slices(step, w)

    @torch.no_grad()
    def calibrate(self, w: Tensor) -> QuantWeight:
        """Start the learned step at c_b rms(w), in place; return the quantizer.

        Raises:
            ValueError: the step is not learned, w is empty or not finite, or has not as many slices
                as the quantizer has channels; nothing was changed.

        >>> QuantWeight(1, scale="learned").calibrate(torch.ones(4, 2)).step
        Parameter containing:
        tensor(0.7979, requires_grad=True)
        """
        check_floating("QuantWeight.calibrate", w)
        if self.step is None:
            raise ValueError(
                f"QuantWeight.calibrate is for scale='learned', got {self.scale!r}, which fits the "
                "step to each tensor by itself"
            )
        if w.numel() == 0 or not bool(torch.isfinite(w).all()):
            raise ValueError("QuantWeight.calibrate needs finite weights, at least one of them")
        if self.channels not in (None, w.shape[0]):
            raise ValueError(
                f"QuantWeight has channels={self.channels}, got a weight of {w.shape[0]} slices"
            )
        self.step.copy_(self._fitted(w))
        return self

    def extra_repr(self) -> str:
        """Return the arguments, as in the constructor."""
        text = f"bits={self.bits}, scale={self.scale!r}, ste={self.ste!r}"
        return text if self.channels is None else f"{text}, channels={self.channels}"
