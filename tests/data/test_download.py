"""Downloads arrive whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coarsegrad.data.download import fetch
from coarsegrad.errors import DataError

BODY = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()


def send(body: bytes, *, length: int | None = -1, status: int = 200) -> Any:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        handler.end_headers()
        try:
            handler.wfile.write(body)
        except ConnectionError:  # a client that has seen enough hangs up; that is its right
            handler.close_connection = True

    return answer


def get(urls: list[str], path: Path, **options: Any) -> None:
    fetch(urls, path, MD5, size=len(BODY), timeout=5, **options)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


BAD = {
    "cut in the middle": (
        send(BODY[:100_000], length=len(BODY)),
        r"closed the connection after 100000 of 300000 bytes",
    ),
    "cut, no length": (
        send(BODY[:100_000], length=None),
        r"closed the connection after 100000 of 300000 bytes",
    ),
    "announces less": (send(BODY, length=299_999), r"announced 299999 bytes instead of 300000"),
    "announces more": (send(BODY, length=300_001), r"announced 300001 bytes instead of 300000"),
    "announces nonsense": (send(BODY, length=10**30), r"announced 10{30} bytes instead"),
    "sends more": (send(BODY + b"x", length=None), r"sent more than 300000 bytes"),
    "wrong bytes": (send(b"x" + BODY[1:]), r"sent a file with md5 \w{32} instead of " + MD5),
    "an error page": (send(b"", length=0), r"announced 0 bytes instead of 300000"),
    "404": (send(b"not here", status=404), r"HTTP 404 Not Found"),
    "503": (send(b"busy", status=503), r"HTTP 503 Service Unavailable"),
    "no HTTP": (lambda handler: handler.wfile.write(b"\0\0\r\n\r\n"), r"after 0 bytes"),
}


@pytest.mark.parametrize("length", [-1, None])
def test_a_good_mirror_is_stored_whole(serve: Any, tmp_path: Path, length: int | None) -> None:
    path = tmp_path / "new" / "folder" / "file.gz"
    get([serve({"/file": send(BODY, length=length)}) + "/file"], path)
    assert path.read_bytes() == BODY
    assert files(tmp_path) == ["new/folder/file.gz"]


def test_the_file_gets_the_usual_permissions(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    get([serve({"/file": send(BODY)}) + "/file"], tmp_path / "file.gz")
    assert (tmp_path / "file.gz").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(("answer", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_mirror_leaves_nothing(serve: Any, tmp_path: Path, answer: Any, reason: str) -> None:
    url = serve({"/file": answer}) + "/file"
    with pytest.raises(DataError, match=reason):
        get([url], tmp_path / "file.gz")
    assert files(tmp_path) == []


@pytest.mark.parametrize(("answer", "reason"), BAD.values(), ids=BAD.keys())
def test_the_next_mirror_is_used(serve: Any, tmp_path: Path, answer: Any, reason: str) -> None:
    address = serve({"/bad": answer, "/good": send(BODY)})
    get([address + "/bad", address + "/good"], tmp_path / "file.gz")
    assert (tmp_path / "file.gz").read_bytes() == BODY
    assert files(tmp_path) == ["file.gz"]


def test_the_message_tells_how_each_mirror_failed(serve: Any, tmp_path: Path) -> None:
    address = serve({"/a": send(b"", status=404), "/b": send(b"x" + BODY[1:])})
    path = tmp_path / "file.gz"
    with pytest.raises(DataError, match="all 3 failed") as caught:
        get([address + "/a", address + "/b", "http://127.0.0.1:9/c"], path)
    message = str(caught.value)
    for part in ("/a: HTTP 404", "/b: it sent a file with md5", "9/c: ", str(path), MD5, "300,000"):
        assert part in message


def test_a_mirror_that_falls_silent_is_left(serve: Any, tmp_path: Path) -> None:
    wake = threading.Event()

    def stall(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY[:1000])
        wake.wait(10)

    url = serve({"/file": stall}) + "/file"
    began = time.monotonic()
    try:
        with pytest.raises(DataError, match="timed out after 1000 bytes"):
            fetch([url], tmp_path / "file.gz", MD5, size=len(BODY), timeout=0.2)
    finally:
        wake.set()
    assert time.monotonic() - began < 2
    assert files(tmp_path) == []


def test_a_failure_keeps_the_file_that_was_there(serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(b"old")
    with pytest.raises(DataError, match="404"):
        get([serve({"/file": send(b"", status=404)}) + "/file"], path)
    assert path.read_bytes() == b"old"


def interrupt_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digest:
        chunks = 0

        def update(self, chunk: bytes) -> None:
            self.chunks += 1
            if self.chunks == 3:
                raise KeyboardInterrupt("injected")

    monkeypatch.setattr(hashlib, "md5", lambda **_: Digest())


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt("injected")


@pytest.mark.parametrize(
    "inject",
    [
        interrupt_md5,
        lambda patch: patch.setattr(os, "fsync", interrupt),
        lambda patch: patch.setattr(Path, "replace", interrupt),
    ],
    ids=["in the middle", "before the disk has it", "before the rename"],
)
def test_ctrl_c_leaves_nothing(
    serve: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inject: Callable[[pytest.MonkeyPatch], None],
) -> None:
    address = serve({"/file": send(BODY)})
    inject(monkeypatch)
    with pytest.raises(KeyboardInterrupt, match="injected"):
        get([address + "/file", address + "/file"], tmp_path / "file.gz")
    assert files(tmp_path) == []


def test_a_full_disk_leaves_nothing(serve: Any, tmp_path: Path) -> None:
    # A limit on the size of files makes write() fail as a full disk does. It holds for a whole
    # process, hence one of its own.
    url = serve({"/file": send(BODY)}) + "/file"
    program = f"""
import pathlib, resource, signal
from coarsegrad.data.download import fetch
from coarsegrad.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    fetch([{url!r}] * 2, pathlib.Path({str(tmp_path / "file.gz")!r}), {MD5!r}, size={len(BODY)})
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "needs to write 300,000 bytes" in done.stdout
    assert "File too large" in done.stdout
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"choose a folder that you may write to"):
        get([serve({"/file": send(BODY)}) + "/file"], tmp_path / "file" / "file.gz")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stderr", "quiet", "bar"),
    [(Terminal, False, True), (Terminal, True, False), (io.StringIO, False, False)],
)
def test_a_bar_is_shown_on_a_terminal_only(
    serve: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stderr: type[io.StringIO],
    quiet: bool,
    bar: bool,
) -> None:
    url = serve({"/file": send(BODY)}) + "/file"
    screen = stderr()
    monkeypatch.setattr(sys, "stderr", screen)
    get([url], tmp_path / "file.gz", quiet=quiet)
    assert ("file.gz" in screen.getvalue()) == bar
    assert bar or screen.getvalue() == ""
