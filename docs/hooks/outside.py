"""Files of the repository that pages show or link to, though they lie outside ``docs/``."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
SPECIFICATION = ROOT / "src" / "coarsegrad" / "packed" / "spec.md"
# A link that leaves docs/: right on a repository's pages, and on the site through a copy.
_LINK = re.compile(r"\]\(\.\./([^)#\s]+)\)")


def on_files(files, *, config):  # type: ignore[no-untyped-def]
    """Add the packed file's specification as a page, and copies of what pages link to."""
    specification = SPECIFICATION.read_text()
    files.append(File.generated(config, "packed-file.md", content=specification))
    linked = {
        target
        for page in Path(config.docs_dir).glob("*.md")
        for target in _LINK.findall(page.read_text())
        if (ROOT / target).is_file()
    }
    for target in sorted(linked):
        files.append(File.generated(config, f"repository/{target}", abs_src_path=ROOT / target))
    return files


def on_page_markdown(markdown, *, page, config, files):  # type: ignore[no-untyped-def]
    """Point such links at the copies; one without a file stays, and fails the strict build."""
    return _LINK.sub(
        lambda link: f"](repository/{link[1]})" if (ROOT / link[1]).is_file() else link[0], markdown
    )
