"""A small bad web server on 127.0.0.1, and a guard: no test of this room leaves the machine."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def _no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "127.0.0.1":
            raise AssertionError(f"a test of the data room tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.setenv("no_proxy", "*")


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, answers: dict[str, Answer], *args: Any) -> None:
        self.answers = answers
        super().__init__(*args)

    def do_GET(self) -> None:
        self.answers[self.path](self)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, Answer]], str]]:
    """A function that serves a table of path -> answer and returns the address."""
    servers = []

    def start(answers: dict[str, Answer]) -> str:
        handler = partial(_Handler, answers)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def _tiny_cifar10(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The files of cifar10_files.py are whole sets, and a cache folder of the test's own."""
    from coarsegrad.data import cifar10_jpeg, cifar10_official
    from data import cifar10_files

    monkeypatch.setattr(cifar10_official, "BATCH", cifar10_files.BATCH)
    monkeypatch.setattr(cifar10_jpeg, "PER_CLASS", cifar10_files.PER_CLASS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
