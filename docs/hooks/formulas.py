"""Docstrings and formulas as Markdown, without a script from elsewhere.

A Markdown extension: `.. math::` blocks of docstrings and ```math fences of pages are drawn at
build time by matplotlib into the page, as SVG in the colour of the text; paragraphs of `>>>` become
code blocks. A formula that matplotlib cannot read fails the build.
"""

from __future__ import annotations

import hashlib
import html
import io
import re

import matplotlib as mpl
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor
from matplotlib.figure import Figure

_MATH = re.compile(r"^\s*\.\. math::[ \t]*(.*)$")
_FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\w*)")
_INK = "#010203"  # a colour nobody else uses; becomes currentColor


def formula(tex: str) -> str:
    r"""Return ``tex`` as an inline SVG in the colour of the text around it.

    Raises:
        ValueError: matplotlib cannot read the formula.

    >>> formula(r"\alpha > 0").startswith('<div class="formula" role="img"')
    True
    """
    buffer = io.StringIO()
    with mpl.rc_context({"mathtext.fontset": "cm", "svg.hashsalt": tex}):
        figure = Figure(figsize=(0.01, 0.01))
        figure.text(0, 0, f"${tex}$", fontsize=13, color=_INK)
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight",
                       pad_inches=0.02, metadata={"Date": None})  # fmt: skip
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # Its style sheet would hold for the whole page.
    drawing = re.sub(r"<(metadata|style)\b.*?</\1>", "", drawing, flags=re.DOTALL)
    # A page may hold several formulas, whose ids must not meet.
    own = hashlib.sha256(tex.encode()).hexdigest()[:8]
    drawing = re.sub(r'\b(id="|href="#)', rf"\g<1>f{own}-", drawing)
    drawing = re.sub(r"\s*\n\s*", " ", drawing).replace(_INK, "currentColor")
    label = html.escape(tex, quote=True)
    return f'<div class="formula" role="img" aria-label="{label}">{drawing}</div>'


class _Prose(Preprocessor):
    """Runs before code fences are read, and leaves what stands in them alone."""

    def run(self, lines: list[str]) -> list[str]:
        out: list[str] = []
        i = 0
        while i < len(lines):
            if fence := _FENCE.match(lines[i]):
                end = _closing(lines, i, fence[1])
                body = lines[i + 1 : end]
                out += self._formula(body) if fence[2] == "math" else lines[i : end + 1]
                i = end + 1
            elif start := _MATH.match(lines[i]):
                end = _indented(lines, i)
                out += self._formula([start[1], *lines[i + 1 : end]])
                i = end
            elif lines[i].startswith(">>> "):
                end = _paragraph(lines, i)
                out += ["", "```pycon", *lines[i:end], "```", ""]
                i = end
            else:
                out.append(lines[i])
                i += 1
        return out

    def _formula(self, lines: list[str]) -> list[str]:
        tex = " ".join(line.strip() for line in lines).strip()
        return ["", self.md.htmlStash.store(formula(tex)), ""]


def _closing(lines: list[str], start: int, fence: str) -> int:
    """Return the index of the line that closes the fence, or the last line."""
    for i in range(start + 1, len(lines)):
        if lines[i].strip() == fence:
            return i
    return len(lines) - 1


def _indented(lines: list[str], start: int) -> int:
    """Return the index after the deeper indented lines that follow ``start``."""
    depth = len(lines[start]) - len(lines[start].lstrip())
    i = start + 1
    while i < len(lines) and len(lines[i]) - len(lines[i].lstrip()) > depth and lines[i].strip():
        i += 1
    return i


def _paragraph(lines: list[str], start: int) -> int:
    """Return the index after the last line of the paragraph."""
    i = start
    while i < len(lines) and lines[i].strip():
        i += 1
    return i


class Formulas(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register ahead of pymdownx.superfences, whose priority is 25."""
        md.preprocessors.register(_Prose(md), "coarsegrad-prose", 27)


def on_config(config):  # type: ignore[no-untyped-def]
    """Add the extension to the site's; mkdocstrings then uses it for docstrings too."""
    config.markdown_extensions.append(Formulas())
    return config
