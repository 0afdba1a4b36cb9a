"""The quick start, as a reader would follow it: the script, then the page's command lines."""

from __future__ import annotations

import gzip
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from coarsegrad.cli import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "quickstart.py"
PAGE = (ROOT / "docs" / "quickstart.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader's folder: the script, a stand-in for MNIST, and Python started there."""
    write_noise(tmp_path)
    (tmp_path / SCRIPT.name).write_text(SCRIPT.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COARSEGRAD_DATA", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "200"])
    yield tmp_path
    sys.modules.pop(SCRIPT.stem, None)


def commands() -> list[list[str]]:
    """Return the page's command lines that begin with coarsegrad."""
    fences = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    lines = "".join(fences).replace("\\\n", "").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("coarsegrad")]


def write_noise(folder: Path) -> None:
    """Write MNIST's four files, with the sizes of MNIST and noise for a few images of each."""
    (folder / "mnist").mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:300] = rng.integers(0, 256, (300, 28, 28))
        labels = rng.integers(0, 10, count, np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim])
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            body = gzip.compress(head + sizes + array.tobytes(), 1)
            (folder / "mnist" / f"{split}-{kind}-ubyte.gz").write_bytes(body)


def test_the_script_is_short_and_stands_on_the_page() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 80
    assert '```{.python title="quickstart.py"}\n--8<-- "examples/quickstart.py"\n```' in PAGE


def test_the_script_and_the_command_lines_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(folder / SCRIPT.name), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.startswith("nothing found\n")
    size = (folder / "my_model.cgrad").stat().st_size
    assert f"my_model.cgrad: {size:,} bytes" in printed
    assert re.search(rf"^total .* {size:,}$", printed, re.MULTILINE), "the summary's total"
    lines = commands()
    assert {line[0] for line in lines} >= {"summary", "check", "pack", "verify", "predict", "bench"}
    for line in lines:
        if line[0] not in ("bench", "doctor"):  # slow; about this machine
            assert main(line) == 0, (line, capsys.readouterr().err)
    assert (folder / "again.cgrad").read_bytes() == (folder / "my_model.cgrad").read_bytes()


@pytest.mark.slow
def test_the_full_script_prints_what_the_page_says(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True,
                          check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    print(printed)
    found = re.findall(r"^epoch \d: ([\d.]+)% of 10000 test images$", printed, re.MULTILINE)
    told = re.findall(r"^epoch \d: ([\d.]+)% of 10000 test images$", PAGE, re.MULTILINE)
    assert float(found[-1]) >= 96
    np.testing.assert_allclose([float(n) for n in found], [float(n) for n in told], atol=0.5)
    (size,) = re.findall(r"^my_model.cgrad: .*$", printed, re.MULTILINE)
    assert size in PAGE
