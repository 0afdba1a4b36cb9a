"""The laws must be able to fail: each committed defect, put into a copy, turns a named test red.

To renew a patch that no longer applies: make the defect in a copy of src and keep the diff.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src" / "coarsegrad"
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))

LAWS = "contracts/test_optimizer_laws.py"
PATHS = "contracts/test_optimizer_paths.py"
STATE = "contracts/test_optimizer_state.py"
COMPILE = "contracts/test_optimizer_compile.py"

# defect -> file of tests, and the words that select the one that must fail
CAUGHT: dict[str, tuple[str, str]] = {
    "base_lrs_on_self": (STATE, "copies_step_on and AdaBound-single"),
    "maximize_in_place": (LAWS, "grad_is_not_written and single"),
    "decay_per_partition": (PATHS, "mixed_dtypes and AdaBound-foreach"),
    "string_in_state": (STATE, "plain_values and BAMSProd-single"),
    "bop_tie": (LAWS, "zero_gradients and Bop and single"),
    "vhat_not_monotone": (LAWS, "vhat_never_falls and BAMSProd-single"),
    "box_through_data": (LAWS, "seen_by_autograd and BAMSProd-single"),
    "nan_lost_in_foreach_maximum": (PATHS, "same_places and BAMSProd-foreach"),
    "state_in_the_parameters_dtype": (STATE, "sixteen_bit and BAMSProd-single"),
    "bounds_not_nested": (LAWS, "ordered_and_nested and single"),
    "zero_gradients_lock_the_bound": (PATHS, "twin and single and BAMSProd"),
    "python_step_counter": (COMPILE, "second_call and BAMSProd"),
    "lookahead_traced": (COMPILE, "composites and Lookahead"),
    "scale_in_bounds": (LAWS, "scale_of_the_loss and BAMSProd"),
    "box_before_the_step": (LAWS, "lies_in_the_box and BAMSProd-single"),
    "one_count_for_two_loads": (STATE, "not_shared and BAMSProd-single"),
}


def run_tests(source: Path, file: str, words: str) -> subprocess.CompletedProcess[str]:
    """Run a selection of tests against another copy of the package."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist",
         str(TESTS / file), "-k", words],
        cwd=TESTS.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The package's Python, and its native module if there is one, to be damaged."""
    shutil.copytree(SOURCE, tmp_path / "coarsegrad", ignore=shutil.ignore_patterns("__pycache__"))
    native = importlib.util.find_spec("coarsegrad._native")
    if native is not None and native.origin:
        shutil.copy(native.origin, tmp_path / "coarsegrad")
    # The finder of an editable install comes before PYTHONPATH.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]\n"
    )
    return tmp_path


def test_every_defect_has_a_test() -> None:
    assert {patch.stem for patch in PATCHES} == CAUGHT.keys()


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_turns_red(patch: Path, copied: Path) -> None:
    applied = subprocess.run(
        ["patch", "-p1", "--batch", "--fuzz=0", "-i", str(patch)],
        cwd=copied, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert applied.returncode == 0, (
        f"{patch.name} no longer applies to src: make the same defect in a copy of src and commit "
        f"the new diff.\n{applied.stdout}"
    )
    done = run_tests(copied, *CAUGHT[patch.stem])
    assert done.returncode == 1, f"nothing noticed {patch.stem}:\n{done.stdout}{done.stderr}"
    assert " failed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted({file for file, _ in CAUGHT.values()}))
def test_an_undamaged_copy_is_green(file: str, copied: Path) -> None:
    """What turns red above does so for the defect, not for being run from a copy."""
    words = " or ".join(f"({words})" for other, words in CAUGHT.values() if other == file)
    done = run_tests(copied, file, words)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_copy_is_what_runs(copied: Path) -> None:
    (copied / "coarsegrad" / "optim" / "bop.py").write_text("raise ValueError('damaged')")
    assert "damaged" in run_tests(copied, LAWS, "zero_gradients and Bop and single").stdout
