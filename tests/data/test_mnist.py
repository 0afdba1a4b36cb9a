"""Where MNIST is looked for, what happens when it is missing, and the real files."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coarsegrad.data import mnist
from coarsegrad.errors import DataError

# The package's attribute of this name is the function.
room = importlib.import_module("coarsegrad.data.mnist")

SHARED = Path(os.environ.get("COARSEGRAD_DATA") or Path(__file__).parents[3] / "shared" / "data")
real = pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason=f"no mnist/ in {SHARED}")


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes(), mtime=0)


X = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
Y = np.array([0, 9, 3, 3, 7, 1], np.uint8)
BODIES = {"train-images-idx3-ubyte.gz": idx(X), "train-labels-idx1-ubyte.gz": idx(Y)}


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six images stand in for the training set, and nothing answers for a mirror."""
    files = tuple(
        file._replace(
            md5=hashlib.md5(BODIES[file.name]).hexdigest(),
            size=len(BODIES[file.name]),
            shape=(6, *file.shape[1:]),
        )
        for file in room.FILES["train"]
    )
    monkeypatch.setitem(room.FILES, "train", files)
    monkeypatch.setattr(room, "MIRRORS", ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/"))


def fill(root: Path, bodies: dict[str, bytes] = BODIES) -> Path:
    (root / "mnist").mkdir(parents=True)
    for name, body in bodies.items():
        (root / "mnist" / name).write_bytes(body)
    return root


def send(body: bytes) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.mark.usefixtures("_tiny")
def test_local_files_are_read_without_a_network(tmp_path: Path) -> None:
    images = mnist("train", root=fill(tmp_path), download=False)
    assert (images.x[:, 0] == X).all()
    assert images.x.shape == (6, 1, 28, 28)
    assert images.y.tolist() == Y.tolist()
    assert (images.name, images.classes) == ("MNIST", 10)


@pytest.mark.usefixtures("_tiny")
def test_the_root_is_argument_then_variable_then_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_in(root: Path | None = None) -> str:
        with pytest.raises(DataError, match="mnist needs") as caught:
            mnist("train", root=root, download=False)
        return re.search(r" in (.*), found", str(caught.value))[1]

    monkeypatch.setenv("HOME", "/a/home")
    monkeypatch.setenv("XDG_CACHE_HOME", "/a/cache")
    monkeypatch.setenv("COARSEGRAD_DATA", "/a/variable")
    assert looked_in(Path("/an/argument")) == "/an/argument/mnist"
    assert looked_in(Path("~/mine")) == "/a/home/mine/mnist"
    assert looked_in() == "/a/variable/mnist"
    monkeypatch.setenv("COARSEGRAD_DATA", "~/variable")
    assert looked_in() == "/a/home/variable/mnist"
    monkeypatch.setenv("COARSEGRAD_DATA", "")
    assert looked_in() == "/a/cache/coarsegrad/mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert looked_in() == "/a/home/.cache/coarsegrad/mnist"
    monkeypatch.delenv("COARSEGRAD_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert looked_in() == "/a/home/.cache/coarsegrad/mnist"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="download=False was given") as caught:
        mnist("test", root=tmp_path, download=False)
    message = str(caught.value)
    for part in (
        "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz",
        str(tmp_path / "mnist"),
        "COARSEGRAD_DATA",
    ):
        assert part in message


@pytest.mark.usefixtures("_tiny")
def test_no_network_says_which_file_to_put_where(tmp_path: Path) -> None:
    labels = {k: v for k, v in BODIES.items() if "labels" in k}
    fill(tmp_path, labels)
    with pytest.raises(DataError, match="refused") as caught:
        mnist("train", root=tmp_path)
    message = str(caught.value)
    assert f"put the file at {tmp_path}/mnist/train-images-idx3-ubyte.gz by hand" in message
    assert "COARSEGRAD_DATA" in message
    assert "train-labels" not in message
    for mirror in room.MIRRORS:
        assert mirror + "train-images-idx3-ubyte.gz: " in message


@pytest.mark.usefixtures("_tiny")
def test_missing_files_are_fetched_once(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve({f"/good/{name}": send(body) for name, body in BODIES.items()})
    monkeypatch.setattr(room, "MIRRORS", ("http://127.0.0.1:9/", address + "/good/"))
    assert mnist("train", root=tmp_path).y.tolist() == Y.tolist()
    assert sorted(p.name for p in (tmp_path / "mnist").iterdir()) == sorted(BODIES)
    monkeypatch.setattr(room, "MIRRORS", ())
    assert (mnist("train", root=tmp_path).x[:, 0] == X).all()


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("train-images-idx3-ubyte.gz", idx(X[:5]), r"the sizes \[5, 28, 28\]"),
        ("train-labels-idx1-ubyte.gz", idx(Y[:5]), r"the sizes \[5\]"),
        ("train-labels-idx1-ubyte.gz", idx(Y + 1), "needs labels 0 .. 9, got 10 in"),
        ("train-images-idx3-ubyte.gz", BODIES["train-images-idx3-ubyte.gz"][:-100], "ended"),
    ],
)
def test_damaged_local_files_are_refused_by_name(
    tmp_path: Path, name: str, body: bytes, reason: str
) -> None:
    fill(tmp_path, {**BODIES, name: body})
    with pytest.raises(DataError, match=reason) as caught:
        mnist("train", root=tmp_path)
    assert str(tmp_path / "mnist" / name) in str(caught.value)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 'tests'\. Did you mean 'test'\?"):
        mnist("tests")


@real
@pytest.mark.parametrize(
    ("split", "histogram"),
    [
        ("train", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("test", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_the_real_mnist(split: Any, histogram: list[int]) -> None:
    images = mnist(split, root=SHARED, download=False)
    assert images.x.shape == (sum(histogram), 1, 28, 28)
    assert np.bincount(images.y).tolist() == histogram
    # The published mean of the training pixels. (Their deviation would cost a second.)
    if split == "train":
        assert images.x.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


@real
def test_the_real_files_have_the_published_checksums_and_sizes() -> None:
    for file in (*room.FILES["train"], *room.FILES["test"]):
        body = (SHARED / "mnist" / file.name).read_bytes()
        assert (hashlib.md5(body).hexdigest(), len(body)) == (file.md5, file.size)
