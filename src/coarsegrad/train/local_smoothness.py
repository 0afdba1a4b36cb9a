"""The smoothness of a loss along one step of training, by differences of gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coarsegrad.errors import DivergenceError
from coarsegrad.quantizers import Quantizer

Tensors = list[Tensor]


@final
@dataclass(frozen=True)
class LocalSmoothness:
    """What was measured between w and w'.

    Attributes:
        loss: at w.
        gradient: the gradient's norm at w.
        smoothness: the largest difference quotient; None where the step is 0, or too short for
            the dtype: below sqrt(eps) |w|, a difference of gradients is rounding.
        step: |w' - w|.
        hessian: the Hessian's norm at w, or None if it was not asked for.
    """

    loss: float
    gradient: float
    smoothness: float | None
    step: float
    hessian: float | None = None


def local_smoothness(
    model: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    *,
    points: int = 5,
    hessian: int = 0,
    dtype: torch.dtype | None = None,
    running_statistics: bool = False,
) -> LocalSmoothness:
    r"""Measure the smoothness of a loss along the step from w to w'.

    .. math:: \hat L = \max_{i = 1..n}
              \frac{|\nabla f(w + \delta_i s) - \nabla f(w)|}{\delta_i |s|}, \qquad
              s = w' - w, \quad \delta_i = \frac{i}{n + 1}

    Zhang, He, Sra, Jadbabaie 2020, arXiv:1905.11881, section 5: a curvature in the step's
    direction, which can lie far below the Hessian's norm where steps are small and smooth.

    Everything happens on a copy: parameters, gradients, buffers and torch's random state stay as
    they are. On it dropout is off, and each gradient sees the same random numbers. Batch norms use
    the batch's statistics, as a training step does, unless ``running_statistics``.

    Of a quantized network, gradients are coarse: this is the smoothness of the coarse gradient as
    a function of the latent weights. It jumps where a sign flips, so there the quotient grows like
    1 / |s| as steps shrink.

    Args:
        model: any module.
        loss: the loss, 0-d, of the module that it is called with, on a batch that it holds fixed.
        before: w, by the names of ``model.named_parameters()``; others stay as they are in the
            model and have no part in norms.
        after: w', likewise.
        points: n.
        hessian: power iterations for ``hessian``; 0 leaves it out. It is a lower bound that rises
            with their number; kinks of ReLUs count as flat.
        dtype: of the copy; None is the model's own. float64 makes short steps measurable; ``loss``
            then has to give the copy float64 inputs.
        running_statistics: batch norms use their running statistics.

    Raises:
        ValueError: names or shapes that are not the model's, or differ; no points; a negative
            ``hessian``; or ``hessian`` for a quantized network, whose second derivative autograd
            does not know: it would differentiate coarse derivatives again.
        DivergenceError: the loss or a gradient is not finite.

    >>> net = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    >>> x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    >>> before, after = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    >>> local_smoothness(net, lambda n: n(x).square().sum() / 2, {"weight": before},
    ...                  {"weight": after}, hessian=10)
    LocalSmoothness(loss=2.0, gradient=4.0, smoothness=4.0, step=1.0, hessian=4.0)
    """
    _check(model, before, after, points, hessian)
    field = _Field(model, loss, list(before), dtype, running_statistics)
    x = field.cast(before.values())
    step = [b - a for a, b in zip(x, field.cast(after.values()), strict=True)]
    length, here = _norm(step), _norm(x)
    value, gradient, curvature = field.at(x, hessian)
    smoothness: float | None = None
    if length > here * math.sqrt(torch.finfo(x[0].dtype).eps):
        smoothness = 0.0
        for i in range(1, points + 1):
            d = i / (points + 1)
            moved = field.at([a + d * s for a, s in zip(x, step, strict=True)])[1]
            gap = _norm([b - a for a, b in zip(gradient, moved, strict=True)])
            smoothness = max(smoothness, gap / (d * length))
    return LocalSmoothness(value, _norm(gradient), smoothness, length, curvature)


@final
class _Field:
    """The gradient as a function of some parameters, on a copy of the model."""

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module], Tensor],
        names: Sequence[str],
        dtype: torch.dtype | None,
        running_statistics: bool,
    ) -> None:
        self.model = copy.deepcopy(model).to(dtype=dtype).eval()
        self.loss = loss
        for module in self.model.modules():
            if isinstance(module, _BatchNorm):
                module.train(not running_statistics)
        own = dict(self.model.named_parameters())
        self.parameters = [own[name].requires_grad_(True) for name in names]
        self.devices = sorted({p.device.index for p in self.parameters if p.device.type == "cuda"})

    def cast(self, tensors: Iterable[Tensor]) -> Tensors:
        """Return them with the dtype and on the device of the copy's parameters."""
        return [t.detach().to(p) for t, p in zip(tensors, self.parameters, strict=True)]

    def at(self, x: Tensors, hessian: int = 0) -> tuple[float, Tensors, float | None]:
        """Return the loss, its gradient, and the Hessian's norm if it is asked for."""
        with torch.no_grad():
            for p, value in zip(self.parameters, x, strict=True):
                p.copy_(value)
        with torch.random.fork_rng(self.devices), torch.enable_grad():
            loss = self.loss(self.model)
            gradient = torch.autograd.grad(
                loss, self.parameters, create_graph=hessian > 0, materialize_grads=True
            )
            found = _largest(gradient, self.parameters, hessian) if hessian else None
        plain = [g.detach() for g in gradient]
        if not math.isfinite(loss.item()) or not math.isfinite(_norm(plain)):
            raise DivergenceError(
                f"local_smoothness diverged: the loss is {loss.item()} and its gradient's norm "
                f"{_norm(plain)}; lower the learning rate, or look for NaN in the data"
            )
        return loss.item(), plain, found


def _largest(gradient: Sequence[Tensor], parameters: Tensors, iterations: int) -> float:
    """Return |H v| after so many power iterations, from a fixed v."""
    curved = [g for g in gradient if g.requires_grad]
    if not curved:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, generator=generator).to(p) for p in parameters]
    found = 0.0
    for _ in range(iterations):
        length = _norm(v)
        if not length:
            return 0.0
        unit = [t / length for t, g in zip(v, gradient, strict=True) if g.requires_grad]
        v = list(torch.autograd.grad(
            curved, parameters, unit, retain_graph=True, materialize_grads=True
        ))  # fmt: skip
        found = _norm(v)
    return found


def _norm(tensors: Sequence[Tensor]) -> float:
    """Return the Euclidean norm of all together."""
    return math.hypot(*(torch.linalg.vector_norm(t).item() for t in tensors))


def _check(
    model: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor], points: int,
    hessian: int,
) -> None:  # fmt: skip
    if points < 1 or hessian < 0:
        raise ValueError(
            f"local_smoothness needs points of 1 or more and hessian of 0 or more, got {points} "
            f"and {hessian}"
        )
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for argument, given in (("before", before), ("after", after)):
        shapes = {name: tuple(t.shape) for name, t in given.items()}
        wrong = [name for name, shape in shapes.items() if own.get(name) != shape]
        if wrong or not shapes or list(shapes) != list(before):
            raise ValueError(
                f"local_smoothness needs {argument} to name parameters of the model, the same in "
                f"before and after, got {wrong or list(shapes)}; take dict(model.named_parameters()"
                "), cloned before the step and after it"
            )
    if hessian and any(isinstance(module, Quantizer) for module in model.modules()):
        raise ValueError(
            "local_smoothness needs hessian=0 for a quantized network, got "
            f"{hessian}: autograd would differentiate its coarse derivatives, and that is not the "
            "Hessian of anything; measure its float twin"
        )
