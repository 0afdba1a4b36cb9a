"""The quantized ReLU, onto 0, 1, ..., 2^bits - 1 steps."""

from __future__ import annotations

from typing import Any, Literal, Self, final, get_args

import torch
from torch import Tensor

from coarsegrad.errors import nearest
from coarsegrad.quantizers.calibration import best_step, lloyd_max
from coarsegrad.quantizers.checks import (
    check_bits,
    check_floating,
    check_ste,
    check_step,
    warn_of_assumption2,
)
from coarsegrad.quantizers.gaussian import half_gaussian_step
from coarsegrad.quantizers.rounding import Rounding, check_rounding, to_levels
from coarsegrad.ste import ClippedReLU, CoarseDerivative, ReLU, coarse

Learning = Literal["lsq", "pact"]
"""How a quantized ReLU learns its step; ``QuantReLU`` says what each word means."""


@final
class QuantReLU(torch.nn.Module):
    r"""The ReLU in ``bits`` bits, onto the levels 0, 1, ..., q_b = 2^bits - 1 times a step tau.

    .. math:: q(x) = \tau\,\mathrm{clamp}(\lceil x/\tau \rceil, 0, q_b), \qquad
        \partial q / \partial x = g'(x/\tau)

    Long, Yin, Xin 2020, arXiv:2011.11256, sec. 2 and fig. 1. Where it cuts is a choice:

    ============  ======================================================  ==================
    ``levels``    level l > 0 is taken by x / tau in                      0 by
    ============  ======================================================  ==================
    ceil          (l - 1, l], the paper's                                 x <= 0
    midpoint      [l - 1/2, l + 1/2], from 0 on for l = 1: HWGQ's         x <= 0
    round         [l - 1/2, l + 1/2]: LSQ's, PACT's, DoReFa's             x / tau <= 1/2
    ============  ======================================================  ==================

    Ties of the last two go to the even level. ``ceil`` takes x / tau <= 2^-20 for 0: a sum that is
    0 but for round-off would otherwise count as a whole level.

    The step is the one of least squared error for inputs that batch norm has made N(0, 1), unless
    given, calibrated or learned:

    ========  =========================================================  =======================
    learn     derivative of the output by tau                            source
    ========  =========================================================  =======================
    lsq       l - (x/tau) g'(x/tau), times 1 / sqrt(n q_b), n the size   Esser et al. 2020,
              of a sample                                                arXiv:1902.08153
    pact      q_b 1{x >= q_b tau}: that of the ceiling q_b tau            Choi et al. 2018,
                                                                         arXiv:1805.06085
    ========  =========================================================  =======================

    DoReFa's activations (Zhou et al. 2016, arXiv:1606.06160) are ``QuantReLU(bits, 1 / (2**bits -
    1), ClippedReLU(), "round")``.

    Args:
        bits: 1 to 8.
        step: tau > 0, in the unit of x; None is ``half_gaussian_step(bits, levels)``.
        ste: the coarse derivative g'; it sees x / tau, and takes q_b from here. ``ReLU()`` unless
            given, ``ClippedReLU()`` where the step is learned.
        levels: where to cut.
        learn: how to learn the step, a parameter then; None keeps it.

    Raises:
        ValueError: ``bits`` is no int in 1..8, ``step`` is not finite and > 0, another word for
            ``levels`` or ``learn``, a ``ste`` made for other levels; the input is not floating
            point or ``ste`` no coarse derivative (ArgumentError, a TypeError too).

    Warns:
        CoarseGradientWarning: ``ste`` fails Assumption 2.

    >>> relu = QuantReLU(2, step=0.5)
    >>> relu(torch.tensor([-1.0, 0.0, 0.1, 0.5, 0.6, 7.0]))
    tensor([0.0000, 0.0000, 0.5000, 0.5000, 1.0000, 1.5000])
    >>> relu.levels, relu.step
    ((0.0, 1.0, 2.0, 3.0), tensor(0.5000))
    """

    step: Tensor | None
    values: Tensor | None
    cuts: Tensor | None

    def __init__(
        self,
        bits: int,
        step: float | None = None,
        ste: CoarseDerivative | None = None,
        levels: Rounding = "ceil",
        *,
        learn: Learning | None = None,
    ) -> None:
        super().__init__()
        self.bits = check_bits("QuantReLU", bits)
        check_rounding("QuantReLU", levels)
        if learn not in (None, *get_args(Learning)):
            raise ValueError(
                f"QuantReLU needs learn to be None, 'lsq' or 'pact', got {learn!r}."
                + nearest(str(learn), get_args(Learning))
            )
        default = ReLU() if learn is None else ClippedReLU()
        given = default if ste is None else check_ste("QuantReLU", ste, "QuantReLU(2, ste=ReLU())")
        found = half_gaussian_step(bits, levels) if step is None else check_step("QuantReLU", step)
        self.ste = given.for_top(self.top)
        warn_of_assumption2("QuantReLU", self.ste, self.top)
        self.rounding: Rounding = levels
        self.learn = learn
        if learn is None:
            self.register_buffer("step", torch.tensor(found))
        else:
            self.register_parameter("step", torch.nn.Parameter(torch.tensor(found)))
        self.register_buffer("values", None)
        self.register_buffer("cuts", None)

    @property
    def top(self) -> int:
        """The highest level, q_b = 2^bits - 1."""
        return (1 << self.bits) - 1

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of ``split``: 0, 1, ..., q_b, or the values that ``calibrate`` has found."""
        if self.values is None:
            return tuple(map(float, range(self.top + 1)))
        return tuple(self.values.tolist())

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (levels, step): x's shape and dtype, and 0-d; the step is None for free levels.

        Raises:
            ArgumentError: x is not floating point.
        """
        check_floating("QuantReLU", x)
        if self.values is not None:
            return self._free_levels(x), None
        assert self.step is not None
        step = self.step.to(x.dtype)
        if self.learn == "lsq" and x.numel():
            step = _scaled_gradient(step, (x[:1].numel() * self.top) ** -0.5)
        if self.learn == "pact":
            levels, step = _Pact.apply(x, step, self)  # type: ignore[no-untyped-call]
            return levels, step
        return coarse(x / step, self._cut, self.ste), step

    def _cut(self, u: Tensor) -> Tensor:
        return to_levels(u, self.rounding, self.top)

    def _free_levels(self, x: Tensor) -> Tensor:
        values, at = self.values, self.cuts
        assert values is not None
        assert at is not None
        # Free levels rise like x on the whole, so g sees x in the unit of their mean distance.
        unit = values[-1] / self.top
        values, at = values.to(x.dtype), at.to(x.dtype)

        def place(u: Tensor) -> Tensor:
            return values[torch.bucketize(x.detach(), at)] / unit

        return coarse(x / unit.to(x.dtype), place, self.ste) * unit.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return levels * step, in x's shape and dtype."""
        levels, step = self.split(x)
        return levels if step is None else levels * step

    @torch.no_grad()
    def calibrate(self, x: Tensor, method: Literal["mse", "lloyd-max"] = "mse") -> Self:
        """Fit the step, or free levels, to a batch of this quantizer's inputs, in place.

        Args:
            x: inputs, floating point, of any shape.
            method: ``mse`` finds the step of least squared error over the positive inputs,
                ``lloyd-max`` levels that need not be equally far apart. The latter have no step,
                cost as many bits, and keep packed layers behind them off the bit kernels.

        Returns:
            The quantizer.

        Raises:
            ValueError: no two different positive numbers in x, NaN or infinities, another word for
                ``method``, free levels where the step is learned; nothing was changed.

        >>> _ = torch.manual_seed(0)
        >>> QuantReLU(2).calibrate(3 * torch.randn(100_000)).step.round(decimals=1)
        tensor(1.5000)
        """
        check_floating("QuantReLU.calibrate", x)
        if method == "mse":
            step = best_step(x, self.bits, self.rounding, "QuantReLU.calibrate")
            if self.step is None:
                raise ValueError("QuantReLU has free levels and no step; make a new QuantReLU")
            self.step.fill_(step)
        elif method == "lloyd-max":
            if self.learn is not None:
                raise ValueError(
                    f"QuantReLU.calibrate cannot free levels whose step is learned "
                    f"(learn={self.learn!r}); use method='mse', or learn=None"
                )
            values, at = lloyd_max(x, self.bits, "QuantReLU.calibrate")
            like = self.step if self.step is not None else self.values
            assert like is not None
            self.values, self.cuts, self.step = values.to(like), at.to(like), None
        else:
            raise ValueError(
                f"QuantReLU.calibrate needs method 'mse' or 'lloyd-max', got {method!r}"
            )
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # What calibrate has made of it is in the state, so the state says which buffers there are.
        free = prefix + "values" in state_dict
        if free != (self.values is not None):
            like = self.step if self.step is not None else self.values
            assert like is not None
            if free:
                self.values = like.new_zeros(self.top + 1)
                self.cuts, self.step = like.new_zeros(self.top), None
            else:
                self.values = self.cuts = None
                self.step = like.new_ones(())
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Return the arguments, and the step as it is now."""
        step = "free levels" if self.step is None else f"step={self.step.item():.6g}"
        learn = "" if self.learn is None else f", learn={self.learn!r}"
        return f"bits={self.bits}, {step}, ste={self.ste!r}, levels={self.rounding!r}{learn}"


def _scaled_gradient(step: Tensor, factor: float) -> Tensor:
    """Return ``step`` with its gradient multiplied by ``factor``."""
    return step.detach() + (step - step.detach()) * factor


class _Pact(torch.autograd.Function):
    """(levels, step), where the step's gradient is that of the ceiling q_b * step alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, relu: QuantReLU) -> tuple[Tensor, Tensor]:
        u = x / step
        ctx.save_for_backward(u, step)
        ctx.relu = relu
        return relu._cut(u), step.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_step: Tensor) -> tuple[Tensor, Tensor, None]:
        u, step = ctx.saved_tensors
        # y = levels * step: grad is dL/dy * step, and grad_step adds dL/dy * levels up. PACT keeps
        # of the latter what lies at the ceiling; the rest is taken out again through grad / step.
        inside = (u < ctx.relu.top) * ctx.relu._cut(u)
        kept = grad_step - (grad * inside).sum() / step
        return ctx.relu.ste.vjp(u, grad) / step, kept, None
