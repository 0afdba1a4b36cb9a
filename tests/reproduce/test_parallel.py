"""Runs side by side: each result once, one thread each, and none outlives a failure."""

from __future__ import annotations

import time

import pytest
import torch

from coarsegrad.reproduce.parallel import StoppedError, Watch, together


def test_every_result_comes_with_its_index() -> None:
    calls = [lambda watch, i=i: (i, torch.get_num_threads()) for i in range(7)]
    assert sorted(together(calls)) == [(i, (i, 1)) for i in range(7)]
    assert list(together([])) == []


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    list(together([lambda watch: None]))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_failure_stops_the_others() -> None:
    ended = []

    def endless(watch: Watch) -> None:
        try:
            for _ in range(300):
                watch(1, 2)
                time.sleep(0.01)
        except StoppedError:
            ended.append("stopped")
            raise
        ended.append("ran to its end")

    def broken(watch: Watch) -> None:
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        list(together([broken, endless, endless, endless]))
    # One that never started has nothing to stop.
    assert set(ended) <= {"stopped"}
