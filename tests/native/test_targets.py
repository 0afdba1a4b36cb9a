import os
import subprocess
import sys

import numpy as np
import pytest

from .conftest import native

ONE = np.ones((1, 1, 1, 1), np.float32)


def run(target):
    return native.testing.bit_layer(target, ONE, ONE)["sums"]


def test_targets_say_what_runs_here_and_why_not():
    rows = native.targets()
    assert rows[0][0] == "generic"
    assert rows[0][2]
    assert all(runs != bool(reason) for _, _, runs, reason in rows)


def test_unknown_target_is_an_error():
    with pytest.raises(ValueError, match=r"target=fast is unknown; the targets are generic"):
        run("fast")


def test_unsupported_target_says_why():
    missing = [(name, reason) for name, _, runs, reason in native.targets() if not runs]
    if not missing:
        pytest.skip("this CPU runs every target")
    name, reason = missing[0]
    with pytest.raises(ValueError, match=f"target={name}: {reason}"):
        run(name)


@pytest.mark.parametrize(("value", "fails"), [("generic", False), ("", False), ("sse9", True)])
def test_environment_forces_a_target(value, fails):
    code = (
        "import numpy as np; from coarsegrad import _native;"
        "one = np.ones((1, 1, 1, 1), np.float32); _native.testing.bit_layer(None, one, one)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "COARSEGRAD_TARGET": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("COARSEGRAD_TARGET=sse9 is unknown" in done.stderr) == fails
    assert (done.returncode != 0) == fails
