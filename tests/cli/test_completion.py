"""What the shell offers after Tab."""

from __future__ import annotations

from pathlib import Path

import pytest

from coarsegrad.cli.completion import (
    complete_packed,
    complete_recipe,
    complete_source,
    recipe_names,
)
from commandline import Run


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "recipe.yaml").touch()
    Path("runs/b/model.cgrad").touch()
    Path("runs/notes").mkdir()
    Path("net.cgrad").touch()
    Path("mine.yaml").touch()
    Path(".hidden").mkdir()


@pytest.mark.usefixtures("_folder")
def test_what_is_offered() -> None:
    assert complete_recipe("mnist_s") == ["mnist_small_cnn"]
    assert complete_recipe("mi") == ["mine.yaml"]
    assert complete_source("") == ["net.cgrad", "runs/", "runs/a", "runs/b"]
    assert complete_source("runs/") == ["runs/a", "runs/a/", "runs/b", "runs/b/", "runs/notes/"]
    assert complete_source("runs/b/") == ["runs/b/model.cgrad"]
    assert complete_packed("runs/") == ["runs/a/", "runs/b", "runs/b/", "runs/notes/"]
    assert complete_source("nowhere/x") == []


def test_the_names_are_those_that_train_takes() -> None:
    from coarsegrad.train import recipe_path

    assert recipe_names()
    for name in recipe_names():
        assert recipe_path(name).stem == name


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize(("typed", "offered"), [
    ("coarsegrad train mnist_sm", ["mnist_small_cnn"]),
    ("coarsegrad pack runs/a", ["runs/a", "runs/a/"]),
    ("coarsegrad predict net", ["net.cgrad"]),
    ("coarsegrad do", ["doctor"]),
    ("coarsegrad reproduce coarse-g", ["coarse-gradient"]),
])  # fmt: skip
def test_the_shell_asks(
    typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from coarsegrad.cli import main

    monkeypatch.setenv("_COARSEGRAD_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert capsys.readouterr().out.split() == offered


def test_show_completion(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    with pytest.raises(SystemExit, match="0"):
        run("--show-completion")
    assert "complete -o default -F _coarsegrad_completion coarsegrad" in capsys.readouterr().out
