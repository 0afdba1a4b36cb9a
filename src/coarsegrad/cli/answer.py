"""What a command answers: once for machines, once for people; and who gets which."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

import typer

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A command's result.

    Attributes:
        document: what ``--json`` prints.
        shown: what people see, in order: texts and rich tables.
        code: the exit code.
    """

    document: Document
    shown: tuple[Any, ...] = ()
    code: int = 0


def answering(command: Callable[..., Answer]) -> Callable[..., None]:
    """Return ``command`` as typer runs it: with its answer printed as ``--json`` asks.

    With ``--json`` whatever else writes to standard output while the command runs, a user's own
    code included, goes to standard error.
    """

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        as_json = options["as_json"]
        out = sys.stdout
        try:
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                answer = command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            explain("KeyboardInterrupt", f"interrupted{interrupt}", as_json=as_json)
            raise typer.Exit(130) from None
        if as_json:
            # Flushed here, where typer still minds a reader that has left.
            print(to_json(answer.document), file=out, flush=True)
        else:
            show(*answer.shown)
        if answer.code:
            raise typer.Exit(answer.code)

    return run


def explain(kind: str, message: str, *, as_json: bool) -> None:
    """Say on standard error why a command stopped; with ``--json`` on standard output too."""
    print(fit(message), file=sys.stderr)
    if as_json:
        print(to_json({"error": {"kind": kind, "message": message.removeprefix("error: ")}}))


def to_json(document: Document) -> str:
    """Return the document as JSON; a number that JSON does not have becomes null.

    >>> print(to_json({"load": float("nan")}))
    {
      "load": null
    }
    """
    return json.dumps(_legal(document), indent=2, allow_nan=False)


def _legal(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _legal(item) for key, item in value.items()}
        case list() | tuple():
            return [_legal(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case os.PathLike():
            return str(value)
    # A number of numpy's or torch's.
    return _legal(value.item())


def show(*parts: Any) -> None:
    """Print texts, their long lines wrapped, and rich tables, cut to the same width."""
    for part in parts:
        if isinstance(part, str):
            print(fit(part), flush=True)
        else:
            _table(part)


def say(text: str) -> None:
    """Print a remark that belongs to no answer on standard error."""
    print(fit(text), file=sys.stderr, flush=True)


def fit(text: str) -> str:
    """Return ``text`` with lines broken at spaces to the terminal's width, 80 where there is none.

    What follows a break keeps the line's indentation; words longer than a line stay whole.
    """
    width = columns()
    return "\n".join(
        line if len(line) <= width else "\n".join(_broken(line, width))
        for line in text.splitlines()
    )


def _broken(line: str, width: int) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns() -> int:
    """Return the columns of the terminal, 80 where there is none."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def _table(table: Any) -> None:
    from rich.console import Console

    out: TextIO = sys.stdout
    # rich's own NO_COLOR keeps bold and dim; plain is what those who set it ask for.
    plain = bool(os.environ.get("NO_COLOR")) or not out.isatty()
    Console(
        file=out, width=columns(), color_system=None if plain else "auto", highlight=False
    ).print(table)
