"""The files of a .tar.gz, one after the other from memory; nothing is ever unpacked to disk."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from coarsegrad.errors import DataError

_CHUNK = 1 << 20


def read_archive(path: Path, *, most: int, total: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of each file in a .tar.gz, in its order.

    Folders are passed over. At most ``total`` bytes are ever unpacked, headers included, whatever
    the archive states. The archive is read to its end, where gzip's own checksum is.

    Args:
        path: the archive.
        most: bytes that a single file may have.
        total: bytes that the unpacked archive may have.

    Raises:
        DataError: the archive cannot be read, is truncated or damaged, is larger than allowed, or
            holds a link, a device, or a name with ``..`` or a leading slash.

    >>> import io, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.tar.gz"
    ...     with tarfile.open(path, "w:gz") as archive:
    ...         member = tarfile.TarInfo("x/two.bin"); member.size = 2
    ...         archive.addfile(member, io.BytesIO(b"ab"))
    ...     list(read_archive(path, most=10, total=1 << 20))
    [('x/two.bin', b'ab')]
    """
    try:
        with gzip.open(path, "rb") as unpacked:
            limited = _Limited(cast(BinaryIO, unpacked), path, total)
            with tarfile.open(fileobj=cast(BinaryIO, limited), mode="r|") as archive:
                for member in archive:
                    archive.members.clear()  # type: ignore[attr-defined]
                    _check(member, path, most)
                    if (file := archive.extractfile(member)) is not None:
                        yield member.name, file.read()
            while limited.read(_CHUNK):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise damaged(path, f"a readable .tar.gz, got: {error}") from error


def damaged(path: Path, sentence: str) -> DataError:
    """Return the error for a file that is not ``sentence``."""
    return DataError(
        f"cifar10 needs {path} to be {sentence}; delete the file, so that it is fetched again, "
        "or replace it by a good copy"
    )


class _Limited:
    """A file to read from, that refuses to give more than ``total`` bytes."""

    def __init__(self, file: BinaryIO, path: Path, total: int) -> None:
        self.file = file
        self.path = path
        self.total = self.left = total

    def read(self, size: int) -> bytes:
        chunk = self.file.read(min(size, self.left + 1))
        self.left -= len(chunk)
        if self.left < 0:
            raise damaged(self.path, f"at most {self.total:,} bytes unpacked, got more")
        return chunk


def _check(member: tarfile.TarInfo, path: Path, most: int) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise damaged(path, f"an archive of plain relative names, got {member.name!r}")
    if not (member.isreg() or member.isdir()):
        raise damaged(path, f"an archive of files and folders, got {member.name!r}, neither")
    if member.size > most:
        raise damaged(
            path, f"an archive of files of at most {most:,} bytes, got {member.name!r} "
            f"of {member.size:,}",
        )  # fmt: skip
