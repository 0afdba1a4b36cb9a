"""Plain text of at most 80 columns: tables whose first column gives way, wrapped sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80
# What the first column keeps at least, and the second at most: BatchNorm2d, in full.
_NARROWEST, _KIND = 6, 11


def count(number: int) -> str:
    """Return a number in at most seven characters.

    >>> [count(0), count(93088), count(10_350_000), count(3_141_592_653)]
    ['0', '93,088', '10.3M', '3.14G']
    """
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:,}"


def short(name: str, width: int) -> str:
    """Return a path of modules in ``width`` characters; of a long one the end tells it apart.

    >>> short("features.block12.conv2", 12)
    '…ock12.conv2'
    """
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return the lines of a table whose first ``left`` columns lean left.

    The first column holds paths and gives way; the second holds kinds, cut after 11 characters.
    """
    cut = [line[1] if len(line[1]) <= _KIND else line[1][: _KIND - 1] + "…" for line in rows]
    lines = [header, *([row[0], kind, *row[2:]] for row, kind in zip(rows, cut, strict=True))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    room = WIDTH - sum(widths[1:]) - gap * (len(widths) - 1)
    widths[0] = max(min(widths[0], room), min(widths[0], _NARROWEST))
    return [
        (" " * gap)
        .join(
            short(cell, width).ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        .rstrip()
        for line in lines
    ]


def wrapped(text: str, first: str = "", then: str = "") -> list[str]:
    """Return a sentence as lines, the first and the others with their indents."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
    )
