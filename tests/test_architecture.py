"""The import table of ARCHITECTURE.md, enforced: who may import whom, and what stays torch-free."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "coarsegrad"
OPEN_TO_ALL = {"errors", "files"}

# room -> the rooms it may import, besides those open to all
TABLE: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "_native": set(),
    "ste": set(),
    "data": set(),
    "packed": set(),
    "prox": set(),
    "quantizers": {"ste", "_native"},
    "nn": {"quantizers", "ste"},
    "optim": {"_native", "prox"},
    "models": {"nn", "quantizers", "ste"},
    "train": {"data", "models", "nn", "optim", "quantizers", "ste"},
    "runtime": {"packed", "_native"},
    "deploy": {"nn", "quantizers", "ste", "packed"},
    "bench": {"deploy", "runtime", "models", "nn", "packed"},
    "inspect": {"nn", "quantizers", "ste", "deploy", "packed"},
    "theory": {"ste", "quantizers", "prox", "nn", "optim"},
    "reproduce": {
        "bench", "data", "deploy", "inspect", "models", "nn", "optim", "packed", "prox",
        "quantizers", "runtime", "ste", "theory", "train",
    },
    "cli": {
        "bench", "data", "deploy", "inspect", "models", "nn", "optim", "packed", "prox",
        "quantizers", "reproduce", "runtime", "ste", "theory", "train",
    },
}  # fmt: skip
EXCEPTIONS = {"deploy/verify.py": {"runtime"}}
TORCH_FREE = {"errors", "files", "packed", "runtime"}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py").removesuffix(".pyi")


def imported(text: str) -> set[str]:
    """Return the dotted names a module imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                names.add("RELATIVE")
            elif node.module == "coarsegrad":
                names |= {f"coarsegrad.{alias.name}" for alias in node.names}
            else:
                names.add(node.module or "")
    return names


def violations(file: str, text: str) -> list[str]:
    """Return what a file of the package imports against the table."""
    room = Path(file).parts[0].removesuffix(".py").removesuffix(".pyi")
    if room == "__init__":
        return []
    if room not in TABLE:
        return [f"{file}: the room {room!r} is not in the table"]
    allowed = TABLE[room] | EXCEPTIONS.get(file, set()) | OPEN_TO_ALL | {room}
    found = []
    for name in imported(text):
        top, _, rest = name.partition(".")
        if name == "RELATIVE":
            found.append(f"{file}: relative import")
        elif top == "coarsegrad" and rest.split(".")[0] not in allowed:
            found.append(f"{file}: imports {name}")
        elif top == "torch" and room in TORCH_FREE:
            found.append(f"{file}: imports {name}, but {room} is free of torch")
    return found


def test_import_table() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 20
    found = [
        violation
        for file in files
        for violation in violations(file.relative_to(SOURCE).as_posix(), file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("ste.py", "from coarsegrad.nn import Linear", "imports coarsegrad.nn"),
        ("ste.py", "from coarsegrad import nn", "imports coarsegrad.nn"),
        ("runtime/model.py", "def f():\n    import torch", "free of torch"),
        ("runtime/model.py", "from coarsegrad.deploy import pack", "imports coarsegrad.deploy"),
        ("deploy/pack.py", "from coarsegrad import runtime", "imports coarsegrad.runtime"),
        ("nn/conv.py", "from . import latent", "relative import"),
        ("utils/misc.py", "import math", "not in the table"),
        ("nn/conv.py", "from coarsegrad import cli", "imports coarsegrad.cli"),
    ],
)
def test_the_table_can_fail(file: str, text: str, expected: str) -> None:
    assert any(expected in violation for violation in violations(file, text))


def test_rooms_exist() -> None:
    rooms = {room_of(file) for file in SOURCE.rglob("*.py") if file.name != "__init__.py"}
    assert rooms - {"__init__"} <= TABLE.keys()


def loads_torch(statement: str) -> bool:
    code = f"import sys\n{statement}\nsys.exit('torch' in sys.modules)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 1


@pytest.mark.parametrize(
    "module",
    ["coarsegrad", "coarsegrad.runtime", "coarsegrad.packed", "coarsegrad.cli", "coarsegrad.data"],
)
def test_does_not_load_torch(module: str) -> None:
    assert not loads_torch(f"import {module}")


def test_the_torch_test_can_fail() -> None:
    assert loads_torch("import coarsegrad.ste")


def test_files_are_short() -> None:
    long = [f for f in SOURCE.rglob("*.py") if len(f.read_text().splitlines()) > 400]
    assert long == []
