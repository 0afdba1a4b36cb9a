"""coarsegrad check: findings are exit code 1, and what they were found on is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from commandline import Run


def test_a_clean_run(run: Run, trained: Path) -> None:
    done = run("check", trained, "--json")
    found = json.loads(done.out)
    assert (done.code, found["findings"], found["not_applied"]) == (0, [], [])
    assert found["on"].startswith("256 test images of digits")


def test_findings_are_1(run: Run) -> None:
    done = run("check", "mynets:relu", "--input", "8", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert "relu-before-sign" in {finding["rule"] for finding in found["findings"]}
    assert "error" not in found
    done = run("check", "mynets:relu", "--input", "8")
    assert done.code == 1
    assert "relu-before-sign" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_random_numbers_are_no_evidence(run: Run) -> None:
    """A batch that kills every input is found; random numbers that would are not asked."""
    dead = np.zeros((64, 8), np.float32)
    np.save("dead.npy", dead)
    found = json.loads(run("check", "mynets:pair", "--batch", "dead.npy", "--json").out)
    assert "dead-inputs" in {finding["rule"] for finding in found["findings"]}
    found = json.loads(run("check", "mynets:pair", "--json").out)
    assert {"rule": "dead-inputs", "reason": "the batch is random numbers"} in found["not_applied"]
    assert {"rule": "saturated-inputs", "reason": "the batch is random numbers"} in (
        found["not_applied"]
    )
    assert "random normal samples, not real data" in found["on"]
