"""Pictures: the forward curve and the coarse derivative of every quantizer and STE.

Everything is measured on the classes as they are: the forward curve by calling them, the coarse
derivative by torch's backward pass. They are found by walking the rooms, so that a new class is
drawn without an edit here.
"""

from __future__ import annotations

import inspect
import io
import warnings
from dataclasses import dataclass
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from coarsegrad import quantizers, ste

LIGHT = {"ink": "#2b3440", "grid": "#e3e7ec", "forward": "#1f5fd0", "slope": "#c2500a",
         "proxy": "#8a94a3", "paper": "#ffffff"}  # fmt: skip
DARK = {"ink": "#d8dee9", "grid": "#3a4150", "forward": "#7fb0ff", "slope": "#ffab66",
        "proxy": "#8d97a8", "paper": "#1e2129"}  # fmt: skip

X = torch.arange(-250, 251) / 125  # 0 is one of them
HIGHEST = 2.4  # steeper derivatives are cut off, and say so, lest they flatten all others
COLUMNS = 4
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.linewidth": 0.6,
    "xtick.major.size": 0, "ytick.major.size": 0, "svg.hashsalt": "coarsegrad",
    "lines.solid_capstyle": "round",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """Numbers of one curve: where, the forward map there, and the coarse derivative."""

    x: NDArray[Any]
    forward: NDArray[Any]
    slope: NDArray[Any]


@dataclass(frozen=True)
class Panel:
    """A titled pair of small axes: forward curves above, coarse derivatives below."""

    title: str
    curves: tuple[Curve, ...]
    proxy: NDArray[Any] | None = None


@dataclass(frozen=True)
class Picture:
    """A figure and what stands below it."""

    figure: Figure
    caption: str


def stes() -> list[ste.CoarseDerivative]:
    """Return one of every coarse derivative, with its default arguments."""
    found = [c for c in vars(ste).values() if _is_final(c, ste.CoarseDerivative)]
    return [derivative() for derivative in found]


def quantizer_classes() -> list[type[torch.nn.Module]]:
    """Return every quantizer class of the room."""
    return [
        c
        for c in vars(quantizers).values()
        if _is_final(c, torch.nn.Module) and hasattr(c, "levels") and hasattr(c, "split")
    ]


def _is_final(thing: object, family: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, family) and not inspect.isabstract(thing)


def ste_panels() -> list[Panel]:
    """Return a panel per coarse derivative: its proxy above, the derivative below."""
    panels = []
    for derivative in stes():
        curve = Curve(X.numpy(), derivative.proxy(X).numpy(), derivative.derivative(X).numpy())
        panels.append(Panel(_title(derivative), (curve,)))
    return panels


def quantizer_panels(quantizer: type[torch.nn.Module]) -> list[Panel]:
    """Return a panel per coarse derivative under this forward map."""
    given = inspect.signature(quantizer).parameters
    if "ste" not in given:
        return [Panel(quantizer.__name__, _measure(example(quantizer), X))]
    panels = []
    for derivative in stes():
        made = example(quantizer, ste=derivative)
        step = made.split(X)[1]  # type: ignore[operator]
        unit = 1.0 if step is None else float(step)
        proxy = unit * made.ste.proxy(X / unit)  # type: ignore[operator, union-attr]
        panels.append(Panel(_title(derivative), _measure(made, X), proxy.numpy()))
    return panels


def example(quantizer: type[torch.nn.Module], **arguments: Any) -> torch.nn.Module:
    """Return a quantizer of two bits, where it has a choice."""
    given = inspect.signature(quantizer).parameters
    if "bits" in given:
        arguments["bits"] = 2
    if "scale" in given and given["scale"].default == "channel":
        # A line of numbers is one output channel.
        arguments.setdefault("scale", "tensor")
    with warnings.catch_warnings():
        # Derivatives that fail Assumption 2 are drawn too.
        warnings.simplefilter("ignore", quantizers.CoarseGradientWarning)
        return quantizer(**arguments)


def scale_panels(quantizer: type[torch.nn.Module]) -> list[Panel]:
    """Return a panel per scale, for a weight of two output channels; [] without scales."""
    if "scale" not in inspect.signature(quantizer).parameters:
        return []
    weight = torch.stack([X, X / 4])
    return [
        Panel(f'scale="{scale}"',
              _measure(example(quantizer, ste=ste.ClippedIdentity(), scale=scale), weight))
        for scale in _scales(quantizer)
    ]  # fmt: skip


def _scales(quantizer: type[torch.nn.Module]) -> tuple[str, ...]:
    several = "bits" in inspect.signature(quantizer).parameters
    return get_args(quantizers.WeightScale if several else quantizers.Scale)


def _title(derivative: ste.CoarseDerivative) -> str:
    return repr(derivative).removesuffix("()")


def _measure(quantizer: torch.nn.Module, x: torch.Tensor) -> tuple[Curve, ...]:
    """Return a curve per row of x, the derivative by torch's backward pass."""
    x = x.clone().requires_grad_()
    y = quantizer(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    rows = zip(*(t.detach().reshape(-1, len(X)).numpy() for t in (x, y, slope)), strict=True)
    return tuple(Curve(*row) for row in rows)


def draw(panels: list[Panel], above: str, below: str) -> Figure:
    """Return the figure: panels in rows of four, equal axes everywhere.

    Args:
        panels: what to draw.
        above: label of the upper axes.
        below: label of the lower axes.
    """
    rows = -(-len(panels) // COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.95 * rows))
        outer = figure.add_gridspec(rows, COLUMNS, wspace=0.12, hspace=0.3, left=0.065,
                                    right=0.99, top=1 - 0.3 / (2.95 * rows),
                                    bottom=0.27 / (2.95 * rows))  # fmt: skip
        for i, panel in enumerate(panels):
            inner = outer[i // COLUMNS, i % COLUMNS].subgridspec(2, 1, hspace=0.09)
            top, bottom = (figure.add_subplot(inner[k]) for k in (0, 1))
            _forward(top, panel)
            _slope(bottom, panel)
            top.set_title(panel.title, color=LIGHT["ink"], pad=5)
            _dress(top, above, first=i % COLUMNS == 0, low=-1.6, high=1.6)
            _dress(bottom, below, first=i % COLUMNS == 0, low=-0.45, high=HIGHEST)
            top.set_xticklabels([])
    return figure


def _forward(axes: Axes, panel: Panel) -> None:
    if panel.proxy is not None:
        axes.plot(X, panel.proxy, color=LIGHT["proxy"], lw=0.9, ls=(0, (4, 2.5)), zorder=2)
    for i, curve in enumerate(panel.curves):
        jumps = np.flatnonzero(np.abs(np.diff(curve.forward)) > 0.1) + 1
        axes.plot(np.insert(curve.x, jumps, np.nan), np.insert(curve.forward, jumps, np.nan),
                  color=LIGHT["forward"], lw=1.7 - 0.7 * i, zorder=4 - i)  # fmt: skip
        for jump in jumps:
            axes.plot([curve.x[jump]] * 2, curve.forward[jump - 1 : jump + 1], zorder=2,
                      color=LIGHT["forward"], lw=0.6, ls=(0, (1, 2)))  # fmt: skip
        if i == 0:
            _ends(axes, curve, jumps)


def _ends(axes: Axes, curve: Curve, jumps: NDArray[Any]) -> None:
    """Mark which end of a jump at 0 belongs to the curve: filled, the other hollow."""
    zero = int(np.abs(curve.x).argmin())
    for jump in jumps:
        if zero in (jump - 1, jump):
            other = jump - 1 if zero == jump else jump
            for at, fill in ((zero, LIGHT["forward"]), (other, LIGHT["paper"])):
                axes.plot(0, curve.forward[at], "o", ms=3.6, mfc=fill, mew=1,
                          mec=LIGHT["forward"], zorder=6)  # fmt: skip


def _slope(axes: Axes, panel: Panel) -> None:
    for i, curve in enumerate(panel.curves):
        if i == 0:
            axes.fill_between(curve.x, curve.slope, color=LIGHT["slope"], alpha=0.16, lw=0)
        axes.plot(curve.x, curve.slope, color=LIGHT["slope"], lw=1.5 - 0.6 * i, zorder=4 - i)
    peak = max(float(curve.slope.max()) for curve in panel.curves)
    if peak > HIGHEST:
        axes.text(1.95, HIGHEST - 0.1, f"up to {peak:.3g}", ha="right", va="top", fontsize=8,
                  color=LIGHT["slope"])  # fmt: skip


def _dress(axes: Axes, label: str, *, first: bool, low: float, high: float) -> None:
    axes.set_xlim(-2.05, 2.05)
    axes.set_ylim(low, high)
    axes.set_xticks([-2, -1, 0, 1, 2])
    axes.set_yticks([-1, 0, 1] if low < -1 else [0, 1, 2])
    axes.tick_params(colors=LIGHT["ink"], labelsize=8, pad=3)
    axes.grid(color=LIGHT["grid"], lw=0.6, zorder=0)
    axes.axhline(0, color=LIGHT["grid"], lw=1.1, zorder=1)
    axes.axvline(0, color=LIGHT["grid"], lw=1.1, zorder=1)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.patch.set_visible(False)
    if first:
        axes.set_ylabel(label, color=LIGHT["ink"], labelpad=3)
    else:
        axes.set_yticklabels([])


def svg(figure: Figure, colours: dict[str, str]) -> str:
    """Return the figure as SVG on a transparent ground, in these colours."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    for name, colour in LIGHT.items():
        text = text.replace(colour, colours[name])
    return text


def pictures() -> dict[str, dict[str, Picture]]:
    """Return the pictures of each room, by file name."""
    whole = "Every coarse derivative: its proxy g above, its derivative g′ below."
    found = {
        "ste": {"ste": Picture(draw(ste_panels(), "g(x)", "g′(x)"), whole)},
        "quantizers": {},
    }
    for quantizer in quantizer_classes():
        name = quantizer.__name__
        figure = draw(quantizer_panels(quantizer), "q(x)", "coarse ∂q/∂x")
        found["quantizers"][name] = Picture(figure, (
            f"{name} with every coarse derivative. Above: what the forward pass computes; dashed, "
            "the proxy g. Below: what the backward pass uses for its slope."
        ))  # fmt: skip
        if scales := scale_panels(quantizer):
            figure = draw(scales, "q(w)", "coarse ∂q/∂w")
            found["quantizers"][f"{name}-scales"] = Picture(figure, (
                f"{name}'s scales on a weight of two output channels: one with w in [-2, 2], one, "
                "drawn thin, with w in [-0.5, 0.5]. The coarse derivative is ClippedIdentity's."
            ))  # fmt: skip
    return found
