"""The command that builds the site refuses links that lead nowhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def build(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Build a page as `make docs` does, with the site's rules for links."""
    (found,) = re.findall(r"-m (mkdocs build.*)", (ROOT / "Makefile").read_text())
    rules = (ROOT / "mkdocs.yml").read_text()
    settings = {
        "site_name": "one page",
        "validation": yaml.safe_load(re.findall(r"^validation:\n(?: .*\n)+", rules, re.M)[0]),
        "hooks": [str(ROOT / "docs" / "hooks" / "outside.py")],
        "exclude_docs": "packed-file.md",
    }
    settings["validation"] = settings["validation"]["validation"]
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
    return subprocess.run([sys.executable, "-m", *shlex.split(found, comments=True)], cwd=folder,
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_a_page_whose_links_are_right_is_built(tmp_path: Path) -> None:
    done = build(tmp_path, "[here](#page), [licence](../LICENSE)")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "repository" / "LICENSE").is_file()


@pytest.mark.parametrize("link", ["nowhere.md", "#nowhere", "../nowhere.csv", "/nowhere"])
def test_a_broken_link_fails(link: str, tmp_path: Path) -> None:
    done = build(tmp_path, f"[gone]({link})")
    assert done.returncode == 1
    assert "Aborted with 1 warnings in strict mode" in done.stderr + done.stdout
