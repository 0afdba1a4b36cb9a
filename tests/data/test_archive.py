"""Archives are read from memory, whole and limited, or refused by name."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from coarsegrad.data.archive import read_archive
from coarsegrad.errors import DataError
from data.archives import write_archive, write_odd_member

FILES = [("a/one.bin", b"1" * 700), ("two.bin", b""), ("a/three.bin", bytes(range(256)) * 9)]


def read(path: Path, most: int = 10_000, total: int = 100_000) -> list[tuple[str, bytes]]:
    return list(read_archive(path, most=most, total=total))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "x.tar.gz", FILES)


def test_files_come_in_order_and_nothing_is_written(path: Path) -> None:
    assert read(path) == FILES
    assert list(path.parent.iterdir()) == [path]


def test_folders_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("folder")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    assert read(path) == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a/.."])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.tar.gz", [(name, b"")])
    with pytest.raises(DataError, match=r"plain relative names, got '.*(\.\.|/etc)"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = write_odd_member(tmp_path / "x.tar.gz", "pipe", kind)
    with pytest.raises(DataError, match="files and folders, got 'pipe', neither"):
        read(path)


def test_a_file_that_is_too_large(path: Path) -> None:
    with pytest.raises(DataError, match=r"at most 2,000 bytes, got 'a/three.bin' of 2,304"):
        read(path, most=2_000)


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    """A megabyte of zeros behind the end of the archive, and a header that claims a gigabyte."""
    path = write_archive(tmp_path / "x.tar.gz", FILES)
    body = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(body + bytes(1 << 20)))
    with pytest.raises(DataError, match="at most 100,000 bytes unpacked, got more"):
        read(path)
    huge = tarfile.TarInfo("pax")
    huge.type = tarfile.XHDTYPE
    huge.size = 1 << 30
    path.write_bytes(gzip.compress(huge.tobuf() + bytes(1 << 20)))
    with pytest.raises(DataError, match="at most 100,000 bytes unpacked, got more"):
        read(path)


def test_every_truncation_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cifar10 needs .*x\.tar\.gz to be a readable"):
            read(path)


def test_damage_behind_the_last_file_is_found(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-8] ^= 1  # gzip's checksum of the whole
    path.write_bytes(whole)
    with pytest.raises(DataError, match="CRC check failed"):
        read(path)


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="Not a gzipped file"):
        read(tmp_path / "x.tar.gz")
    (tmp_path / "y.tar.gz").write_bytes(gzip.compress(b"no archive"))
    with pytest.raises(DataError, match="got: truncated header"):
        read(tmp_path / "y.tar.gz")
