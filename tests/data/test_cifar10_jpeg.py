"""The JPEG form: labels, the fixed permutation, the kept pixels, damage, and the real archive."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from coarsegrad.data import Images, cifar10, cifar10_jpeg
from coarsegrad.data.root import cache_folder
from coarsegrad.errors import DataError, MissingExtraError
from data.archives import write_archive
from data.cifar10_files import PIXELS, colour, jpeg, jpegs

SHARED = Path(os.environ.get("COARSEGRAD_DATA") or Path(__file__).parents[3] / "shared" / "data")
ARCHIVE = "cifar10-jpeg/cifar10-jpeg.tar.gz"
real = pytest.mark.skipif(not (SHARED / ARCHIVE).is_file(), reason=f"no {ARCHIVE} in {SHARED}")
tiny = pytest.mark.usefixtures("_tiny_cifar10")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_archive(tmp_path / ARCHIVE, jpegs().items())


def read(path: Path, split: str = "train") -> Images:
    return cifar10(split, root=path.parents[1], download=False)  # type: ignore[arg-type]


@tiny
def test_labels_belong_to_their_images(path: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        images = read(path, split)
        assert sorted(images.y.tolist()) == [kind for kind in range(10) for _ in range(count)]
        left = {(kind, number) for kind in range(10) for number in range(count)}
        for x, kind in zip(images.x, images.y.tolist(), strict=True):
            shown = x.mean((1, 2))
            number = min(range(count), key=lambda n: abs(shown - colour(split, kind, n)).sum())
            assert abs(shown - colour(split, kind, number)).max() < 3  # JPEG rounds
            left.remove((kind, number))
        assert not left


@tiny
def test_rows_columns_and_colours_stay_what_they_are(path: Path) -> None:
    shown = np.zeros((32, 32, 3), np.uint8)
    shown[:16] = (200, 0, 0)  # the upper half is red,
    shown[:, 24:] = (0, 0, 200)  # the right quarter blue
    write_archive(path, {**jpegs(), "test/cat/0000.jpg": jpeg(shown)}.items())
    images = read(path, "test")
    red, green, blue = images.x[images.y.tolist().index(3)].astype(int)
    assert red[:14, :20].min() > 150
    assert max(red[18:].max(), red[:, 28:].max(), green.max()) < 60
    assert blue[:, 28:].min() > 150
    assert blue[:, :20].max() < 60


@tiny
def test_the_permutation_is_fixed_forever(path: Path) -> None:
    assert read(path).y.tolist() == [9, 5, 4, 2, 1, 8, 5, 3, 6, 8, 4, 1, 2, 3, 6, 0, 0, 7, 7, 9]
    assert read(path, "test").y.tolist() == [6, 1, 4, 9, 2, 8, 7, 0, 5, 3]


@tiny
def test_the_order_of_the_archive_does_not_matter(path: Path) -> None:
    before = read(path).x
    write_archive(path, reversed(jpegs().items()))
    os.utime(path, ns=(1, 1))
    assert (read(path).x == before).all()


@tiny
def test_decoded_pixels_are_kept_as_long_as_the_archive_is_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, calls = cifar10_jpeg._decode, []

    def counting(*given: object) -> object:
        calls.append(given)
        return decode(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(cifar10_jpeg, "_decode", counting)
    before = read(path).x
    assert (read(path).x == before).all()
    assert len(read(path, "test")) == 10
    assert len(calls) == 1
    assert [file.name for file in cache_folder().iterdir()] == ["cifar10-jpeg.npz"]
    os.utime(path, ns=(1, 1))
    read(path)
    assert len(calls) == 2
    write_archive(path, {**jpegs(), "test/cat/0000.jpg": jpeg((0, 0, 0))}.items())
    os.utime(path, ns=(1, 1))
    assert (read(path, "test").x == 0).all((1, 2, 3)).any()
    assert len(calls) == 3


@tiny
@pytest.mark.parametrize("body", [b"", b"noise", b"PK\x03\x04 cut", None])
def test_damaged_kept_pixels_are_made_again(path: Path, body: bytes | None) -> None:
    before = read(path).x
    kept = cache_folder() / "cifar10-jpeg.npz"
    whole = kept.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    kept.write_bytes(bytes(damaged) if body is None else body)
    assert (read(path).x == before).all()
    assert kept.read_bytes() == whole


@tiny
def test_without_a_place_to_keep_pixels(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match=r"cannot keep the decoded images .* XDG_CACHE_HOME"):
        assert len(read(path)) == 20


NOISE = jpeg(PIXELS["train"][0].transpose(1, 2, 0))
BROKEN = [
    ("train/cat/0000.jpg", jpeg((1, 2, 3), size=(32, 31)), r"0000\.jpg, RGB of \(32, 31\)"),
    ("train/cat/0000.jpg", jpeg((1, 2, 3), mode="L"), r"train/cat/0000\.jpg, L of \(32, 32\)"),
    ("train/cat/0000.jpg", NOISE[:-300], r"0000\.jpg with: image file is truncated"),
    ("train/cat/0000.jpg", b"", r"got train/cat/0000\.jpg with: cannot identify"),
    ("train/cat/0000.jpg", bytes(1 << 17), "at most 65,536 bytes, got 'train/cat/0000.jpg'"),
    ("train/cow/0000.jpg", jpeg((1, 2, 3)), "CLASS in airplane, .*; got 'train/cow/0000.jpg'"),
    ("train/cat/0002.jpg", jpeg((1, 2, 3)), "got 'train/cat/0002.jpg'"),
    ("test/cat/0001.jpg", jpeg((1, 2, 3)), "got 'test/cat/0001.jpg'"),
    ("./train/cat/0001.jpg", jpeg((1, 2, 3)), r"each image once, got \./train/cat/0001.jpg twice"),
    ("train/../train/cat/0.jpg", b"", "plain relative names"),
]


@tiny
@pytest.mark.parametrize(("name", "content", "reason"), BROKEN)
def test_damage_is_refused_by_name(path: Path, name: str, content: bytes, reason: str) -> None:
    write_archive(path, {**jpegs(), name: content}.items())
    with pytest.raises(DataError, match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert not cache_folder().exists()


@tiny
def test_missing_images_are_named(path: Path) -> None:
    files = jpegs()
    del files["test/deer/0000.jpg"], files["test/ship/0000.jpg"]
    write_archive(path, files.items())
    with pytest.raises(DataError, match=r"missing 2 images, the first test/deer/0000\.jpg"):
        read(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="got: Compressed file ended"):
        read(path)


@tiny
def test_without_pillow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"PIL.Image.*pip install 'coarsegrad\[train\]'"):
        read(path)


@real
def test_the_real_archive() -> None:
    """Both splits in full, the first image as it is in the archive, and what all come to."""
    from PIL import Image

    with gzip.open(SHARED / ARCHIVE) as unpacked, tarfile.open(fileobj=unpacked) as archive:
        first = next(member for member in archive if member.isfile())
        image = np.asarray(Image.open(io.BytesIO(archive.extractfile(first).read())))  # type: ignore[union-attr]
    assert first.name == "train/airplane/0000.jpg"
    train, test = (cifar10(split, root=SHARED, download=False) for split in ("train", "test"))
    assert (train.x.shape, test.x.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert train.name == test.name == "CIFAR-10 (JPEG)"
    assert np.bincount(train.y).tolist() == [5_000] * 10
    assert np.bincount(test.y).tolist() == [1_000] * 10
    # The last images are held out for validation: every class has its share of them.
    assert np.bincount(train.y[-5_000:], minlength=10).min() > 450
    order = np.random.Philox(key=50_000).random_raw(50_000).argsort(kind="stable")
    place = int(order.argsort()[0])
    assert train.y[place] == 0
    assert (train.x[place] == image.transpose(2, 0, 1)).all()
    # The published means of CIFAR-10's training pixels; JPEG keeps means.
    assert train.x.mean((0, 2, 3)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=5e-4)
