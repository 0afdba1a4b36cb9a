"""The site asks nobody for anything: a script, style, font or picture from elsewhere fails it."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.exceptions import PluginError

_TAG = re.compile(r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*>", re.I)
_ADDRESS = re.compile(r"""(?:src|href|srcset|data)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""", re.I)
_STYLE = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""", re.I)


def requests(text: str, suffix: str) -> list[str]:
    """Return the addresses that a browser would ask for while it shows this file.

    >>> requests('<script src="https://a.b/c.js"></script><a href="https://a.b">', ".html")
    ['https://a.b/c.js']
    >>> requests("@import '//a.b/c.css'; p {background: url(d.png)}", ".css")
    ['//a.b/c.css']
    """
    tags = _TAG.findall(text) if suffix == ".html" else []
    found = [address for tag in tags for address in _ADDRESS.findall(tag)]
    return found + _STYLE.findall(text)


def on_post_build(config):  # type: ignore[no-untyped-def]
    """Look through every page and style sheet."""
    site = Path(config.site_dir)
    for file in sorted(site.rglob("*")):
        if file.suffix in (".html", ".css"):
            for address in requests(file.read_text(), file.suffix):
                raise PluginError(f"{file.relative_to(site)} would request {address}")
