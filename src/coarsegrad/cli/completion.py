"""What the shell offers after Tab: recipes, run folders, packed files. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def recipe_names() -> list[str]:
    """Return the names of the bundled recipes, of an install or of a checkout.

    >>> "mnist_small_cnn" in recipe_names()
    True
    """
    folders = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def run_folders(under: Path = Path("runs")) -> list[str]:
    """Return the run folders directly inside a folder, ``runs`` unless given."""
    return sorted(str(recipe.parent) for recipe in under.glob("*/recipe.yaml"))


def complete_recipe(incomplete: str) -> list[str]:
    """Return recipe names, and YAML files once a path is begun."""
    return _fitting([*recipe_names(), *_files(incomplete, ".yaml")], incomplete)


def complete_source(incomplete: str) -> list[str]:
    """Return run folders, packed files, and the folders of a path that is begun."""
    return _fitting([*run_folders(), *_files(incomplete, ".cgrad")], incomplete)


def complete_packed(incomplete: str) -> list[str]:
    """Return run folders that hold a packed file, packed files, folders."""
    packed = [folder for folder in run_folders() if Path(folder, "model.cgrad").is_file()]
    return _fitting([*packed, *_files(incomplete, ".cgrad")], incomplete)


def complete_paper(incomplete: str) -> list[str]:
    """Return the papers that ``reproduce`` knows."""
    from coarsegrad.reproduce import papers

    return _fitting(list(papers()), incomplete)


def _fitting(names: list[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _files(incomplete: str, suffix: str) -> list[str]:
    """Return the folders and the files with this suffix beside what is typed so far."""
    folder = Path(incomplete if incomplete.endswith("/") else Path(incomplete).parent)
    try:
        entries = list(folder.iterdir())
    except OSError:
        return []
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    folders = [f"{entry}/" for entry in shown if entry.is_dir()]
    return folders + [str(entry) for entry in shown if entry.suffix == suffix and entry.is_file()]
