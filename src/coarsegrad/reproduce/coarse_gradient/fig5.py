"""Figure 5: features in the plane of MNIST's test images, quantized activations beside float ones.

One seed of the recipe ``mnist_cnn7`` and of its float twin: half the width and 4 epochs where the
paper has an unknown network and 100. A finished training is not repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coarsegrad.reproduce.drawing import canvas, save
from coarsegrad.reproduce.record import recorded
from coarsegrad.reproduce.report import Comparison, Report, Request, Verdict
from coarsegrad.reproduce.threads import one_thread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from coarsegrad.train import Recipe

    Floats = npt.NDArray[np.float64]

KINDS = {"quantized": "4-bit activations", "float": "float activations"}
FILTERS: dict[str, tuple[str, ...] | None] = {"kind": tuple(KINDS)}
"""Keys and values of ``Request.only``."""
TRAINS = True

SHOWN = 2_000  # test images in the picture and in the table
_QUICK = {"epochs": 1, "limit": 1_000, "width": 4}
# Ten hues in the order of the digits; a label at each cluster tells them apart without colour.
_DIGITS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00",
    "#56B4E9", "#000000", "#8B4513", "#7F7F00", "#6A51A3",
)  # fmt: skip
NOTES = (
    "The paper says of its network only that it has 7 layers, and of its loss that it is that of "
    "CosFace; ours: models.cnn7, scale and margin of the recipe mnist_cnn7.",
    "Ten lines in a plane are independent in pairs at most, not jointly; what can be measured is "
    "whether each class keeps to a direction of its own.",
)


def run(request: Request) -> Report:
    """Train what is missing (about 10 minutes a network), and draw."""
    canvas(1, 1)  # says that matplotlib is missing before minutes have gone
    kinds = [kind for kind in KINDS if request.wants(kind=kind)]
    seed = request.seeds_or(1) - 1
    mark = "quick-" if request.quick else ""
    rows, seen = [], {}
    with recorded(request.out / f"{mark}fig5.csv") as record:
        for kind in kinds:
            request.show(f"  {KINDS[kind]}, seed {seed}")
            points, labels, right = _features(request, kind, seed)
            seen[kind] = (points, labels)
            shown = zip(points[:SHOWN].round(4).tolist(), labels[:SHOWN].tolist(), strict=True)
            record.add(*({"kind": kind, "digit": d, "x": x, "y": y} for (x, y), d in shown))
            rows.append(compared(kind, points, labels, right, quick=request.quick))
    picture = draw(seen, request.out / f"{mark}fig5.png")
    title = "Section 8.2, Fig. 5: features in the plane, MNIST test images"
    return Report(title, tuple(rows), (record.path, picture), NOTES)


def recipe_of(kind: str, seed: int, *, quick: bool) -> Recipe:
    """Return what a panel trains."""
    from coarsegrad.train import read_recipe, recipe_path

    changes: dict[str, Any] = {"seed": seed, **(_QUICK if quick else {})}
    if kind == "float":
        changes |= {"twin": True, "ste": None}
    return read_recipe(recipe_path("mnist_cnn7"), changes)


def _features(request: Request, kind: str, seed: int) -> tuple[Floats, Any, float]:
    """Return the (N, 2) features of the test images, their labels, and the share of right ones."""
    import numpy as np
    import torch

    from coarsegrad import data
    from coarsegrad.data import Batches
    from coarsegrad.train import load_run, train

    recipe = recipe_of(kind, seed, quick=request.quick)
    mark = "quick-" if request.quick else ""
    folder = request.out / "runs" / f"{mark}cnn7-{kind}-seed{seed}"
    with one_thread(), torch.no_grad():
        with torch.enable_grad():
            train(recipe, folder, resume=(folder / "last.ckpt").exists())
        net = load_run(folder)[1]
        assert isinstance(net, torch.nn.Sequential)
        images = data.mnist("test").take(slice(0, SHOWN if request.quick else None))
        batches = Batches(images.x, images.y, 500, seed=0, shuffle=False)
        found = [net[:-1](x) for x, _ in batches]
        right = [(net[-1](f).argmax(1) == y) for f, (_, y) in zip(found, batches, strict=True)]
    points = torch.cat(found).numpy().astype(np.float64)
    return points, images.y, float(torch.cat(right).float().mean())


def directions(points: Floats, labels: Any) -> tuple[Floats, Floats]:
    """Return the mean direction of each class, and each feature's angle off its own, in degrees."""
    import numpy as np

    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    means = np.stack([units[labels == digit].mean(0) for digit in np.unique(labels)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    place = np.searchsorted(np.unique(labels), labels)
    return means, np.degrees(np.arccos(np.clip((units * means[place]).sum(1), -1, 1)))


def compared(kind: str, points: Floats, labels: Any, right: float, *, quick: bool) -> Comparison:
    """Compare how far features lie off their class's direction with the gaps between classes."""
    import numpy as np

    means, off = directions(points, labels)
    around = np.sort(np.degrees(np.arctan2(means[:, 1], means[:, 0])))
    gap = float(np.diff([*around, around[0] + 360]).min())
    share = float((off < gap / 2).mean())
    verdict: Verdict = "holds" if share >= 0.95 else "differs"
    return Comparison(
        "features of a class cluster near a subspace of their own",
        f"{KINDS[kind]}: median {np.median(off):.1f} degrees off their class's direction, "
        f"{share:.1%} nearer than half the smallest gap ({gap:.0f} degrees); "
        f"test accuracy {right:.2%}",
        "not run" if quick else verdict,
        f"Fig. 5, {KINDS[kind]}",
    )


def draw(seen: dict[str, tuple[Floats, Any]], path: Path) -> Path:
    """Draw the features, a panel a network, each class labelled where its features are."""
    import numpy as np

    figure, panels = canvas(4.6 * max(1, len(seen)), 4.4, columns=max(1, len(seen)))
    for axes, (kind, (points, labels)) in zip(panels, seen.items(), strict=False):
        points, labels = points[:SHOWN], labels[:SHOWN]
        reach = 1.25 * float(np.linalg.norm(points, axis=1).max())
        for digit in np.unique(labels):
            mine = points[labels == digit]
            axes.plot(*mine.T, ".", color=_DIGITS[digit], markersize=2.5, alpha=0.6)
            way = np.median(mine, axis=0)
            x, y = 0.93 * reach * way / np.linalg.norm(way)
            axes.text(x, y, str(digit), color=_DIGITS[digit], ha="center", va="center",
                      fontsize=12, fontweight="bold")  # fmt: skip
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.set_title(KINDS[kind])
        axes.set_xlabel("feature 1")
        axes.set_ylabel("feature 2")
    return save(figure, path)
