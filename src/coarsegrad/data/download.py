"""Fetch one file from the first mirror that serves it whole, or leave nothing behind."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from coarsegrad.errors import DataError
from coarsegrad.files import replacing

_CHUNK = 1 << 16


class _MirrorError(Exception):
    """One mirror failed; the next may not."""


def fetch(
    urls: Sequence[str],
    path: Path,
    md5: str,
    *,
    size: int,
    timeout: float = 30.0,
    quiet: bool = False,
) -> None:
    """Download a file of known size and checksum to ``path``, replacing what is there.

    The bytes go to a temporary file in the same folder, which is renamed when they are complete,
    checked and on disk. Whatever goes wrong, Ctrl-C and a full disk included, the temporary file
    is removed and ``path`` is as it was.

    Args:
        urls: mirrors of the file, tried in this order.
        path: where the file goes; its folder is made if need be.
        md5: checksum in hexadecimal.
        size: length in bytes; a mirror that announces or sends another one is left.
        timeout: seconds without an answer, or without a byte, after which a mirror is left.
        quiet: show no progress bar. There is none either when standard error is no terminal.

    Raises:
        DataError: every mirror failed (the message says how each did), or the file cannot be
            written.
    """
    failures = []
    for url in urls:
        try:
            _fetch_one(url, path, md5, size, timeout, quiet)
        except _MirrorError as error:
            failures.append(f"{url}: {error}")
        except OSError as error:
            # Not the mirror's fault: a second one would meet the same disk.
            raise DataError(
                f"fetch needs to write {size:,} bytes to {path}, got: {error}; "
                "make room, or choose a folder that you may write to"
            ) from error
        else:
            return
    raise DataError(
        f"fetch needs one mirror that serves {path.name} ({size:,} bytes, md5 {md5}), but all "
        f"{len(urls)} failed: {'; '.join(failures)}. Try again later, or put the file at {path} "
        "by hand"
    )


def _fetch_one(url: str, path: Path, md5: str, size: int, timeout: float, quiet: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        with (
            _progress(path.name, size, quiet) as advance,
            closing(_receive(url, size, timeout)) as chunks,
            temporary.open("xb") as file,
        ):
            found = _write(chunks, file, advance)
        if found != md5:
            raise _MirrorError(f"it sent a file with md5 {found} instead of {md5}")


def _write(chunks: Iterable[bytes], file: BinaryIO, advance: Callable[[int], None]) -> str:
    """Write every chunk and return the md5 of the whole."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        file.write(chunk)
        digest.update(chunk)
        advance(len(chunk))
    return digest.hexdigest()


def _receive(url: str, size: int, timeout: float) -> Generator[bytes, None, None]:
    """Yield exactly ``size`` bytes in chunks, or raise _MirrorError."""
    got = 0
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            announced = response.headers.get("Content-Length")
            if announced is not None and announced.strip() != str(size):
                raise _MirrorError(f"it announced {announced} bytes instead of {size}")
            # One byte more than is left, so that a file without an announced end shows itself.
            while chunk := response.read1(min(_CHUNK, size - got + 1)):
                got += len(chunk)
                if got > size:
                    raise _MirrorError(f"it sent more than {size} bytes")
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise _MirrorError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(f"{error or type(error).__name__} after {got} bytes") from error
    if got < size:
        raise _MirrorError(f"it closed the connection after {got} of {size} bytes")


@contextmanager
def _progress(name: str, size: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=size)
        yield lambda count: bar.advance(task, count)
