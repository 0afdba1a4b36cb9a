"""A batch is a pure function of (seed, epoch, index), also after a resume."""

from __future__ import annotations

import copy
import logging
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coarsegrad.data import Batches, crop_flip, pixels

N = 23


def data(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(1).integers(0, 256, (n, 1, 2, 3), np.uint8), np.arange(n)


def loader(**changes: Any) -> Batches:
    x, y = data()
    return Batches(x, y, **{"batch_size": 5, "seed": 7, "shuffle": True, **changes})


def labels(batches: Any) -> list[list[int]]:
    return [y.tolist() for _, y in batches]


def epoch(number: int, **changes: Any) -> list[list[int]]:
    """The labels of one epoch from a fresh loader: what every other way must agree with."""
    fresh = loader(**changes)
    fresh.set_epoch(number)
    return labels(fresh)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_pixels_with_their_labels(shuffle: bool) -> None:
    x, _ = data()
    for images, y in loader(shuffle=shuffle):
        assert (images.dtype, y.dtype) == (torch.float32, torch.int64)
        assert (images.numpy() == pixels(x[y.numpy()])).all()


@given(
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None)
def test_an_epoch_covers_every_image_once(
    n: int, batch_size: int, seed: int, number: int, shuffle: bool, drop_last: bool
) -> None:
    drop_last = drop_last and n >= batch_size
    x, y = data(n)
    batches = Batches(x, y, batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last)
    batches.set_epoch(number)
    got = labels(batches)
    flat = [label for batch in got for label in batch]
    assert len(got) == len(batches)
    assert len(set(flat)) == len(flat) == (n - n % batch_size if drop_last else n)
    assert {len(b) for b in got[:-1]} <= {batch_size}
    assert 1 <= len(got[-1]) <= batch_size
    if not shuffle:
        assert flat == list(range(len(flat)))


def test_the_permutation_is_fixed_forever() -> None:
    assert epoch(0)[0] == [8, 16, 4, 1, 6]
    assert epoch(3)[0] == [2, 18, 5, 15, 19]


def test_epochs_and_seeds_differ() -> None:
    runs = [epoch(number, seed=seed) for seed in (0, 1, 2**64 - 1) for number in (0, 1, 2**40)]
    assert len({str(run) for run in runs}) == len(runs)
    # The key is a pair, not a sum: (0, 1) and (1, 0) are two orders.
    assert epoch(1, seed=0) != epoch(0, seed=1)


def test_without_shuffle_epochs_are_alike() -> None:
    assert epoch(0, shuffle=False) == epoch(5, shuffle=False)


def test_what_was_iterated_before_does_not_matter() -> None:
    used = loader()
    for number in (4, 0, 2, 4):
        used.set_epoch(number)
        list(islice(used, 3))  # and leave it there
        assert labels(used) == epoch(number)
        assert labels(used) == epoch(number)
    torch.manual_seed(0)
    np.random.seed(0)
    assert labels(used) == epoch(4)


def test_the_global_generators_are_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    labels(loader())
    assert (torch.get_rng_state() == torch_state).all()
    assert (np.random.get_state()[1] == numpy_state).all()


def test_two_iterations_at_once_do_not_mix() -> None:
    shared = loader()
    pairs = list(zip(shared, shared, strict=True))
    assert labels(a for a, _ in pairs) == labels(b for _, b in pairs) == epoch(0)


def test_a_batch_is_a_copy() -> None:
    x, y = data()
    batches = Batches(x, y, 5, seed=0, shuffle=False)
    before = labels(batches)
    for images, some in batches:
        images.zero_()
        some.zero_()
    assert labels(batches) == before
    assert (x == data()[0]).all()


def test_arrays_may_be_read_only_or_strided() -> None:
    x, y = data(46)
    x, y = x[::2], y[::-2]
    x.setflags(write=False)
    got = Batches(x, y, 50, seed=0, shuffle=False)
    assert labels(got) == [y.tolist()]
    assert (next(iter(got))[0].numpy() == pixels(x)).all()


def augmented(number: int) -> list[torch.Tensor]:
    """The images of one epoch, each batch augmented by the function itself."""
    fresh = loader()
    fresh.set_epoch(number)
    return [
        crop_flip(images, seed=7, epoch=number, step=index)
        for index, (images, _) in enumerate(fresh)
    ]


@pytest.mark.parametrize("position", range(6))
def test_augmented_batches_are_the_same_after_a_resume(position: int) -> None:
    first = loader(augment="crop_flip")
    first.set_epoch(3)
    done = [images for images, _ in islice(first, position)]
    second = loader(augment="crop_flip")
    second.load_state_dict(first.state_dict())
    got = [*done, *(images for images, _ in second)]
    assert all(torch.equal(a, b) for a, b in zip(got, augmented(3), strict=True))
    second.set_epoch(4)
    early = iter(second)
    got = [next(early)[0]]
    second.set_epoch(9)  # an iteration under way stays in its epoch
    got += [images for images, _ in early]
    assert all(torch.equal(a, b) for a, b in zip(got, augmented(4), strict=True))
    assert labels(loader(augment="crop_flip")) == epoch(0)


def test_states_from_before_augmentation_are_of_plain_batches() -> None:
    old = {key: value for key, value in loader().state_dict().items() if key != "augment"}
    loader().load_state_dict(old)
    with pytest.raises(ValueError, match=ONLY + "augment='crop_flip', got 'none'"):
        loader(augment="crop_flip").load_state_dict(old)


@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("drop_last", [True, False])
def test_resume_equals_uninterrupted(position: int, drop_last: bool) -> None:
    first = loader(drop_last=drop_last)
    first.set_epoch(3)
    position = min(position, len(first))
    done = labels(islice(first, position))
    state = pickle.loads(pickle.dumps(first.state_dict()))
    assert (state["epoch"], state["handed_out"]) == (3, position)

    second = loader(drop_last=drop_last)
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert len(second) == len(first)
    second.set_epoch(3)  # a training loop names the epoch that it is in
    rest = labels(second)
    assert done + rest == epoch(3, drop_last=drop_last)
    assert len(rest) == len(first) - position
    assert labels(second) == epoch(3, drop_last=drop_last)
    second.set_epoch(4)
    assert labels(second) == epoch(4, drop_last=drop_last)


def test_a_resumed_iteration_counts_on() -> None:
    resumed = loader()
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 1, "handed_out": 2})
    places = [resumed.state_dict()["handed_out"] for _ in resumed]
    assert places == [3, 4, 5]


def test_an_iterator_made_before_the_epoch_is_named_obeys_it() -> None:
    resumed = loader()
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 1, "handed_out": 5})
    early = iter(resumed)
    resumed.set_epoch(2)
    assert labels(early) == epoch(2)


def test_another_epoch_begins_at_its_first_batch() -> None:
    moved = loader()
    moved.load_state_dict({**moved.state_dict(), "epoch": 1, "handed_out": 2})
    moved.set_epoch(2)
    assert moved.state_dict()["handed_out"] == 0
    assert labels(moved) == epoch(2)


def test_the_state_follows_the_newest_iteration() -> None:
    both = loader()
    old, new = iter(both), iter(both)
    list(islice(old, 2))
    next(new)
    assert both.state_dict()["handed_out"] == 1
    next(old)
    assert both.state_dict()["handed_out"] == 1
    both.set_epoch(9)
    next(new)
    assert (both.state_dict()["epoch"], both.state_dict()["handed_out"]) == (9, 0)


def test_copies_go_their_own_way() -> None:
    first = loader()
    next(iter(first))
    for twin in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert twin.state_dict() == first.state_dict()
        list(twin)
        assert first.state_dict()["handed_out"] == 1


X, Y = data()
ONLY = r"\.load_state_dict needs a state with "


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"x": X.astype(np.float32)}, r"x as uint8 of shape \(N, ...\), got float32"),
        ({"x": np.uint8(3)}, r"x as uint8 .* of shape \(\)"),
        ({"y": Y.astype(np.int32)}, r"y as int64 of shape \(N,\), got int32 of shape \(23,\)"),
        ({"y": Y[:, None]}, r"got int64 of shape \(23, 1\)"),
        ({"y": Y[1:]}, "as many labels as images, got 23 images and 22 labels"),
        ({"x": X[:0], "y": Y[:0]}, "at least one image, got none"),
        ({"batch_size": 0}, "batch_size as an integer, 1 or above, got 0"),
        ({"batch_size": 2.5}, "batch_size as an integer, 1 or above, got 2.5"),
        ({"seed": -1}, "seed as an integer, 0 or above, got -1"),
        ({"seed": 2**64}, "seed as an integer, 0 or above, got 18446744073709551616"),
        ({"batch_size": 24, "drop_last": True}, "got 23 images for batch_size=24"),
        ({"augment": "cropflip"}, "augment to be one of none, crop_flip, .* mean 'crop_flip'"),
        (
            {"augment": "crop_flip", "x": X[:, 0]},
            r"for augment='crop_flip', got shape \(23, 2, 3\)",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match="^Batches needs .*" + reason):
        Batches(**{"x": X, "y": Y, "batch_size": 5, "seed": 0, "shuffle": True, **arguments})


def test_a_bad_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="epoch as an integer, 0 or above, got -1"):
        loader().set_epoch(-1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 8}, ONLY + "seed=7, got 8; resume with the data and settings"),
        ({"batch_size": 4}, ONLY + "batch_size=5, got 4"),
        ({"samples": 24}, ONLY + "samples=23, got 24"),
        ({"shuffle": False}, ONLY + "shuffle=True, got False"),
        ({"drop_last": True}, ONLY + "drop_last=False, got True"),
        ({"augment": "crop_flip"}, ONLY + "augment='none', got 'crop_flip'"),
        ({"handed_out": 6}, "handed_out as an integer, 0 .. 5, got 6"),
        ({"handed_out": -1}, "handed_out as an integer, 0 .. 5, got -1"),
        ({"epoch": "3"}, "epoch as an integer, 0 or above, got '3'"),
    ],
)
def test_a_state_of_other_batches_is_refused(changes: dict[str, Any], reason: str) -> None:
    target = loader()
    before = target.state_dict()
    with pytest.raises(ValueError, match=reason):
        target.load_state_dict({**before, **changes})
    assert target.state_dict() == before


def test_an_incomplete_state_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a state with handed_out, got none"):
        loader().load_state_dict({k: v for k, v in loader().state_dict().items() if k[0] != "h"})


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of which the next release has others
@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 2},
        {"max_epochs": 2, "val_check_interval": 2},
        {"max_epochs": 2, "limit_train_batches": 3},
        {"max_epochs": 2, "limit_val_batches": 0},
    ],
    ids=str,
)
def test_lightning_resumes_with_the_very_next_batch(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Record(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 1)
            self.seen: list[tuple[int, int, list[int]]] = []

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            self.seen.append((self.current_epoch, index, batch[1].tolist()))
            return self.layer(batch[0].flatten(1)).sum()

        def validation_step(self, batch: Any, index: int) -> None:
            pass

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    class Save(lightning.Callback):
        """Keep a checkpoint of every place where ModelCheckpoint may make one."""

        def save(self, trainer: Any, place: str) -> None:
            if not trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / f"{trainer.global_step}-{place}.ckpt")

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.save(trainer, "batch")

        def on_validation_end(self, trainer: Any, *_: Any) -> None:
            self.save(trainer, "validation")

        def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
            self.save(trainer, "epoch")

    def fit(callbacks: list[Any], checkpoint: Path | None = None) -> list[Any]:
        trainer = lightning.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            **options,
        )
        module = Record()
        trainer.fit(module, loader(), loader(shuffle=False), ckpt_path=checkpoint)
        return module.seen

    whole = fit([Save()])
    length = options.get("limit_train_batches", 5)
    assert whole == [(e, i, epoch(e)[i]) for e in range(2) for i in range(length)]
    checkpoints = sorted(tmp_path.iterdir())
    assert len(checkpoints) >= len(whole) + 2
    for checkpoint in checkpoints:
        steps = int(checkpoint.name.split("-")[0])
        assert fit([], checkpoint) == whole[steps:], checkpoint.name
