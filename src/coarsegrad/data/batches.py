"""The loader: shuffled mini-batches from memory that resume in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coarsegrad.data.augment import Augmentation, crop_flip
from coarsegrad.errors import nearest


class Batches:
    """One epoch of mini-batches: pairs of x float32 (B, ...) and y int64 (B,) on the CPU.

    The images stay uint8 in memory and become (k - 128) / 128, as in ``pixels``, a batch at a
    time. Batch i, its augmentation included, depends on (seed, epoch, i) alone, whatever was
    iterated before. ``len()`` is
    the number of batches in a whole epoch, after a resume too.

    ``state_dict`` says how many batches of which epoch were handed out; the first iteration after
    ``load_state_dict`` begins with the next one. Lightning (2.4 and later) puts this state into
    its checkpoints, and calls ``set_epoch`` on ``sampler`` before each epoch.

    Args:
        x: images, uint8 of shape (N, ...); not copied, if contiguous and writable.
        y: labels, int64 of shape (N,); likewise.
        batch_size: images in a batch; the last batch of an epoch may have fewer.
        seed: chooses the permutations, 0 .. 2**64 - 1.
        shuffle: permute the images, anew in each epoch; otherwise they come in order.
        drop_last: leave out a last batch that is not full.
        augment: ``"crop_flip"`` shifts and mirrors each image of each batch anew, as the function
            of this name does; it takes images (N, C, H, W). ``"none"`` gives them as they are.

    Raises:
        ValueError: an argument is not as above, or no batch is left.

    >>> x, y = np.zeros((5, 1, 28, 28), np.uint8), np.arange(5)
    >>> loader = Batches(x, y, 2, seed=0, shuffle=True)
    >>> len(loader), [tuple(images.shape) for images, labels in loader]
    (3, [(2, 1, 28, 28), (2, 1, 28, 28), (1, 1, 28, 28)])
    """

    batch_sampler = None  # Lightning asks for it wherever there is a ``sampler``

    def __init__(
        self,
        x: npt.NDArray[np.uint8],
        y: npt.NDArray[np.int64],
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool = False,
        augment: Augmentation = "none",
    ) -> None:
        _check_arrays(x, y)
        _check_augmentation(augment, x)
        _check_integer("batch_size", batch_size, 1, 2**63)
        _check_integer("seed", seed, 0, 2**64)
        if drop_last and len(x) < batch_size:
            raise ValueError(
                f"Batches needs at least one full batch when drop_last=True, got {len(x)} images "
                f"for batch_size={batch_size}; lower batch_size, or leave drop_last out"
            )
        self._x = torch.from_numpy(np.require(x, requirements=["C", "W"]))
        self._y = torch.from_numpy(np.require(y, requirements=["C", "W"]))
        self._plan: dict[str, Any] = {
            "samples": len(x),
            "batch_size": int(batch_size),
            "seed": int(seed),
            "shuffle": bool(shuffle),
            "drop_last": bool(drop_last),
            "augment": augment,
        }
        self._epoch = 0
        self._handed_out = 0
        self._start = 0  # where the next iteration begins
        self._iteration = 0  # the one whose progress state_dict tells

    def __len__(self) -> int:
        samples: int = self._plan["samples"]
        batch_size: int = self._plan["batch_size"]
        full, rest = divmod(samples, batch_size)
        return full + (rest > 0 and not self._plan["drop_last"])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # A generator, whose body begins with the first batch: Lightning makes the iterator of its
        # first epoch before it says by set_epoch which epoch that is.
        self._iteration += 1
        iteration = self._iteration
        start, self._start = self._start, 0
        epoch, order = self._epoch, self._order()
        for index in range(start, len(self)):
            if iteration == self._iteration:
                self._handed_out = index + 1
            yield self._batch(epoch, order, index)

    @property
    def sampler(self) -> Batches:
        """This loader itself: Lightning calls ``set_epoch`` on a loader's sampler only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the iterations to come, from 0.

        Naming the present epoch again changes nothing, so that a position from
        ``load_state_dict`` survives; another epoch begins at its first batch.

        Raises:
            ValueError: ``epoch`` is not an integer in 0 .. 2**64 - 1.
        """
        _check_integer("epoch", epoch, 0, 2**64)
        if epoch != self._epoch:
            self._move(int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the batches handed out of it, and what makes these two meaningful.

        >>> x, y = np.zeros((5, 1, 28, 28), np.uint8), np.arange(5)
        >>> loader = Batches(x, y, 2, seed=0, shuffle=True)
        >>> _ = next(iter(loader))
        >>> loader.state_dict()["handed_out"]
        1
        """
        return {"epoch": self._epoch, "handed_out": self._handed_out, **self._plan}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration begin where ``state_dict`` was taken; later ones begin at 0.

        Raises:
            ValueError: the state is incomplete, out of range, or of a loader with other samples,
                batch size, seed, shuffle, drop_last or augment, whose batches these are not.
        """
        state = {"augment": "none", **state}  # states from before there was augmentation
        for name, mine in (*self._plan.items(), ("epoch", None), ("handed_out", None)):
            if name not in state or (mine is not None and state[name] != mine):
                need = name if mine is None else f"{name}={mine!r}"
                got = f"{state[name]!r}" if name in state else "none"
                raise ValueError(
                    f"Batches.load_state_dict needs a state with {need}, got {got}; "
                    "resume with the data and settings that the state was saved with"
                )
        _check_integer("epoch", state["epoch"], 0, 2**64)
        _check_integer("handed_out", state["handed_out"], 0, len(self) + 1)
        self._move(int(state["epoch"]), int(state["handed_out"]))

    def _move(self, epoch: int, position: int) -> None:
        self._epoch = epoch
        self._handed_out = self._start = position
        self._iteration += 1  # an iteration under way no longer tells its progress

    def _order(self) -> Tensor:
        samples = self._plan["samples"]
        if not self._plan["shuffle"]:
            return torch.arange(samples)
        # Raw Philox words: numpy promises their stream, but not that of Generator.permutation.
        key = np.array([self._plan["seed"], self._epoch], np.uint64)
        words = np.random.Philox(key=key).random_raw(samples)
        return torch.from_numpy(words.argsort(kind="stable"))

    def _batch(self, epoch: int, order: Tensor, index: int) -> tuple[Tensor, Tensor]:
        size = self._plan["batch_size"]
        picked = order[index * size : (index + 1) * size]
        x = self._x[picked]
        if self._plan["augment"] == "crop_flip":
            x = crop_flip(x, seed=self._plan["seed"], epoch=epoch, step=index)
        return x.to(torch.float32).sub_(128).div_(128), self._y[picked]


def _check_arrays(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
    if x.dtype != np.uint8 or x.ndim < 1:
        raise ValueError(
            f"Batches needs x as uint8 of shape (N, ...), got {x.dtype} of shape {x.shape}; "
            "give the pixels 0 .. 255 as they were read"
        )
    if y.dtype != np.int64 or y.ndim != 1:
        raise ValueError(
            f"Batches needs y as int64 of shape (N,), got {y.dtype} of shape {y.shape}; "
            "give one class index an image, as y.astype(np.int64)"
        )
    if len(x) != len(y):
        raise ValueError(
            f"Batches needs as many labels as images, got {len(x)} images and {len(y)} labels"
        )
    if len(x) == 0:
        raise ValueError("Batches needs at least one image, got none; check how they were picked")


def _check_augmentation(augment: str, x: npt.NDArray[Any]) -> None:
    allowed = get_args(Augmentation)
    if augment not in allowed:
        raise ValueError(
            f"Batches needs augment to be one of {', '.join(allowed)}, got {augment!r}."
            + nearest(str(augment), allowed)
        )
    if augment != "none" and x.ndim != 4:
        raise ValueError(
            f"Batches needs x of shape (N, channels, height, width) for augment={augment!r}, got "
            f"shape {x.shape}; leave augment out"
        )


def _check_integer(name: str, value: object, low: int, end: int) -> None:
    if not isinstance(value, (int, np.integer)) or not low <= value < end:
        bound = f"{low} .. {end - 1}" if end < 2**63 else f"{low} or above"
        raise ValueError(f"Batches needs {name} as an integer, {bound}, got {value!r}")
