"""One reference page a room, from its docstrings; the build fails if a public name is missing."""

from __future__ import annotations

import re
from pathlib import Path

import curves
import public
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

# The command line has a page of its own, which shows its commands instead of their functions.
WITHOUT_PAGE = {"cli"}


def documented() -> list[str]:
    """Return the rooms that have a page here."""
    return [room for room in public.rooms() if room not in WITHOUT_PAGE]


def page(room: str, pictures: dict[str, str]) -> str:
    """Return a room's page as Markdown: its docstring, then every public name."""
    parts = [f"# {room}\n", _directive(f"coarsegrad.{room}", whole=False)]
    if pictures:
        parts.append("## Curves\n")
    parts += [_picture(name, caption) for name, caption in pictures.items()]
    parts += [_directive(name.path, whole=True) for name in public.names(room)]
    return "\n".join(parts)


def _directive(path: str, *, whole: bool) -> str:
    options = "" if whole else "    options: {members: false, show_root_heading: false, " \
                               "show_root_toc_entry: false}\n"  # fmt: skip
    return f"::: {path}\n{options}"


def _picture(name: str, caption: str) -> str:
    drawn = "".join(
        f'<img class="curves" src="../pictures/{name}-{theme}.svg#only-{theme}" alt="{caption}">'
        for theme in ("light", "dark")
    )
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>\n"


def on_config(config):  # type: ignore[no-untyped-def]
    """Fill the empty section Reference of the navigation."""
    for entry in config.nav:
        if isinstance(entry, dict) and "Reference" in entry:
            entry["Reference"] = [{r: f"reference/{r}.md"} for r in documented()]
    return config


def on_files(files, *, config):  # type: ignore[no-untyped-def]
    """Add the pages and the pictures."""
    drawn = curves.pictures()
    for room in documented():
        captions = {name: p.caption for name, p in drawn.get(room, {}).items()}
        text = page(room, captions)
        files.append(File.generated(config, f"reference/{room}.md", content=text))
    for figures in drawn.values():
        for name, picture in figures.items():
            for theme, colours in (("light", curves.LIGHT), ("dark", curves.DARK)):
                place = f"pictures/{name}-{theme}.svg"
                drawing = curves.svg(picture.figure, colours)
                files.append(File.generated(config, place, content=drawing))
    return files


def missing(site: Path) -> list[str]:
    """Return the public names that the built site has no entry for."""
    lost = []
    for room in documented():
        html = (site / "reference" / f"{room}.html").read_text()
        anchors = set(re.findall(r'id="([^"]+)"', html))
        lost += [f"{room}.{n.name}" for n in public.names(room) if n.path not in anchors]
    return lost


def on_post_build(config):  # type: ignore[no-untyped-def]
    """Fail where a public name is on no page."""
    if lost := missing(Path(config.site_dir)):
        raise PluginError(f"public names without an entry in the reference: {', '.join(lost)}")
