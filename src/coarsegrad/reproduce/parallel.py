"""Independent runs side by side: one core each, and all stop when one fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from coarsegrad.reproduce.threads import one_thread

T = TypeVar("T")
Watch = Callable[..., None]
"""What a run calls now and then, with anything; it raises once the run is to stop."""


class StoppedError(Exception):
    """Another run failed, or the user pressed Ctrl-C."""


def together(calls: Sequence[Callable[[Watch], T]]) -> Iterator[tuple[int, T]]:
    """Run calls in threads, one per usable core; yield (index, result) as each ends.

    torch releases the interpreter while it works, and has one thread for each call meanwhile.
    If a call raises, or the reader leaves, the others are stopped through their ``watch``.

    >>> sorted(together([lambda watch: "a", lambda watch: "b"]))
    [(0, 'a'), (1, 'b')]
    """
    stop = threading.Event()

    def watch(*_: Any) -> None:
        if stop.is_set():
            raise StoppedError

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with one_thread(), ThreadPoolExecutor(cores) as pool:
        futures = {pool.submit(call, watch): i for i, call in enumerate(calls)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
