"""coarsegrad doctor: what it finds, also where little is there."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import coarsegrad
from coarsegrad.cli import findings
from coarsegrad.runtime import targets
from commandline import Run

ROOT = Path(__file__).parents[2]


def test_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COARSEGRAD_DATA", "data")
    Path("data/mnist").mkdir(parents=True)
    for file in findings.DATA["mnist"][0]:
        Path("data", file).touch()
    done = run("doctor", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["ok"] is True
    assert found["versions"]["coarsegrad"] == coarsegrad.__version__
    assert found["versions"]["numpy"] == importlib.metadata.version("numpy")
    assert [t["name"] for t in found["runtime"]["targets"]] == [t.name for t in targets()]
    assert found["runtime"]["default"] in [t.name for t in targets() if t.runs]
    assert found["data"]["folder"] == "data"
    sets = {name: entry["here"] for name, entry in found["data"]["sets"].items()}
    assert sets == {"mnist": True, "cifar10": False, "cifar10-jpeg": False}
    assert found["machine"]["torch"]["threads"] >= 1
    text = run("doctor")
    assert text.code == 0
    assert "self-test" in text.out
    assert "data: data (COARSEGRAD_DATA)" in text.out
    assert all(len(line) <= 80 or " " not in line.strip() for line in text.out.splitlines())


def test_without_torch(tmp_path: Path) -> None:
    code = (
        "import importlib.metadata as m, sys\n"
        "real = m.version\n"
        "def version(name):\n"
        "    if name in ('numpy', 'safetensors', 'typer', 'rich', 'coarsegrad'):\n"
        "        return real(name)\n"
        "    raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError('No module named torch', name='torch')\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from coarsegrad.cli import main\n"
        "sys.exit(main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for extra in ("torch", "train", "export"):
        assert f"pip install 'coarsegrad[{extra}]'" in done.stdout
    assert re.search(r"torch +not installed", done.stdout)


def test_a_broken_runtime_is_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from coarsegrad.runtime import Model

    right = Model.__call__

    def wrong(self: Model, x):  # type: ignore[no-untyped-def]
        y = right(self, x)
        return y if self.target == "numpy" else y + 1

    monkeypatch.setattr(Model, "__call__", wrong)
    done = run("doctor", "--json")
    if [target.name for target in targets() if target.runs] == ["numpy"]:
        pytest.skip("no native target runs here")
    assert done.code == 1
    found = json.loads(done.out)
    assert found["ok"] is False
    assert "differs from numpy on a small network" in found["runtime"]["self_test"]
    assert "FAILED" in run("doctor").out


def test_a_broken_torch_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert findings.machine()["torch"] is None

    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torch":
                raise OSError("libtorch_cpu.so: cannot open shared object file")

    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        patch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        assert "broken: libtorch_cpu.so" in findings.machine()["torch"]["error"]


def test_the_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        found = {re.split(r"[<>=\[ ]", text)[0].lower() for text in requirements}
        return found - {"coarsegrad"}

    def listed(extra: str) -> set[str]:
        return {name.lower() for name, place in findings.PACKAGES.items() if place == extra}

    assert listed("") == names(project["dependencies"])
    for extra in findings.USES:
        assert listed(extra) == names(project["optional-dependencies"][extra])


def test_the_places_of_data_are_those_that_are_read() -> None:
    from coarsegrad.data.cifar10 import _PLACES
    from coarsegrad.data.mnist import FILES

    files = {f"mnist/{file.name}" for split in FILES.values() for file in split}
    assert files == set(findings.DATA["mnist"][0])
    places = {place for place, *_ in _PLACES}
    listed = findings.DATA["cifar10"] + findings.DATA["cifar10-jpeg"]
    assert places == {file for form in listed for file in form}
