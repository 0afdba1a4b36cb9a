"""Where CIFAR-10 is looked for, in which order, what it is called, and what is missing."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coarsegrad.data import cifar10
from coarsegrad.errors import DataError, MissingDataError
from data.archives import write_archive
from data.cifar10_files import LABELS, PIXELS, binaries, jpegs, pickles

# The package's attribute of this name is the function.
room = importlib.import_module("coarsegrad.data.cifar10")

pytestmark = pytest.mark.usefixtures("_tiny_cifar10")

FORMS = {
    "cifar10/cifar-10-batches-py": pickles,
    "cifar10/cifar-10-python.tar.gz": pickles,
    "cifar10/cifar-10-batches-bin": binaries,
    "cifar10/cifar-10-binary.tar.gz": binaries,
    "cifar10-jpeg/cifar10-jpeg.tar.gz": jpegs,
}


def put(root: Path, form: str) -> None:
    files = FORMS[form]()
    if form.endswith(".tar.gz"):
        write_archive(root / form, files.items())
        return
    for name, content in files.items():
        (root / "cifar10" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cifar10" / name).write_bytes(content)


@pytest.mark.parametrize("form", [form for form in FORMS if "jpeg" not in form])
def test_every_official_form_gives_the_same_images(form: str, tmp_path: Path) -> None:
    put(tmp_path, form)
    for split in ("train", "test"):
        images = cifar10(split, root=tmp_path, download=False)
        assert (images.name, images.classes) == ("CIFAR-10", 10)
        assert images.x.tolist() == PIXELS[split].tolist()
        assert images.y.tolist() == LABELS[split].tolist()
        assert images.x.flags.writeable
        assert images.x.shape[1:] == (3, 32, 32)


def test_the_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def spied(read: Any) -> Any:
        def spy(path: Path, split: Any) -> Any:
            seen.append(path)
            return read(path, split)

        return spy

    places = tuple((place, spied(read), name) for place, read, name in room._PLACES)
    monkeypatch.setattr(room, "_PLACES", places)
    for form in reversed(FORMS):
        put(tmp_path, form)
        images = cifar10("test", root=tmp_path, download=False)
        assert images.name == ("CIFAR-10 (JPEG)" if "jpeg" in form else "CIFAR-10")
    assert seen == [tmp_path / form for form in reversed(FORMS)]


def test_the_root_is_argument_then_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a", "cifar10/cifar-10-batches-bin")
    put(tmp_path / "b", "cifar10-jpeg/cifar10-jpeg.tar.gz")
    monkeypatch.setenv("COARSEGRAD_DATA", str(tmp_path / "b"))
    assert cifar10("test", download=False).name == "CIFAR-10 (JPEG)"
    assert cifar10("test", root=tmp_path / "a", download=False).name == "CIFAR-10"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="download=False was given") as caught:
        cifar10("test", root=tmp_path, download=False)
    for part in (*FORMS, str(tmp_path), "COARSEGRAD_DATA"):
        assert part in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_network_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "URLS", ("http://127.0.0.1:9/cifar-10-binary.tar.gz",))
    with pytest.raises(MissingDataError, match="refused") as caught:
        cifar10("train", root=tmp_path)
    place = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    assert f"put the file at {place} by hand" in str(caught.value)


def test_the_binaries_are_fetched_once(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = write_archive(tmp_path / "served", binaries().items()).read_bytes()

    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setattr(room, "URLS", (serve({"/x": answer}) + "/x",))
    monkeypatch.setattr(room, "SIZE", len(body))
    monkeypatch.setattr(room, "MD5", hashlib.md5(body).hexdigest())
    assert cifar10("test", root=tmp_path).y.tolist() == LABELS["test"].tolist()
    assert (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").read_bytes() == body
    monkeypatch.setattr(room, "URLS", ())
    assert cifar10("train", root=tmp_path).y.tolist() == LABELS["train"].tolist()


def test_the_published_checksum_and_size() -> None:
    assert (room.MD5, room.SIZE) == ("c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cifar10 needs .* got 'tests'\. Did you mean 'test'\?"):
        cifar10("tests")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_file_is_refused_by_name(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    path.parent.mkdir(parents=True)
    if form.endswith(".tar.gz"):
        path.write_bytes(b"")
    else:
        path.mkdir()
    with pytest.raises(DataError, match=r"replace it by a good copy") as caught:
        cifar10("train", root=tmp_path)
    assert str(path) in str(caught.value)
    assert np.array_equal(sorted(tmp_path.rglob("*")), sorted([path.parent, path]))
