"""The page of the command line, read from the commands themselves."""

from __future__ import annotations

import inspect
import re

import click
import typer
from mkdocs.structure.files import File

from coarsegrad import cli


def page() -> str:
    """Return the page as Markdown: what `coarsegrad --help` says, then every command."""
    top = typer.main.get_command(cli.app)
    context = click.Context(top, info_name="coarsegrad")
    parts = [
        "# Command line\n",
        f"{top.help}\n",
        _prose(top.epilog or inspect.getdoc(cli) or "") + "\n",
        "`coarsegrad COMMAND --help` prints what stands here.\n",
    ]
    for name in top.list_commands(context):
        parts.append(_command(top.get_command(context, name), name, context))
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Return help text without click's mark for paragraphs that keep their lines."""
    return inspect.cleandoc(text).replace("\b\n", "")


def _command(command, name: str, above: click.Context) -> str:  # type: ignore[no-untyped-def]
    context = click.Context(command, info_name=name, parent=above)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {name}\n", f"```text\n{usage}\n```\n", _prose(command.help) + "\n"]
    rows = [_row(parameter, context) for parameter in command.get_params(context)]
    lines += ["| argument or option | | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter, context: click.Context) -> str:  # type: ignore[no-untyped-def]
    forms, text = parameter.get_help_record(context) or (parameter.make_metavar(context), "")
    default = re.search(r"\[default: (.*?)\]", text)
    text = re.sub(r"\s*\[(?:default: .*?|required)\]", "", text).replace("|", "\\|")
    shown = f"`{default[1]}`" if default else ""
    return f"| `{forms.strip()}` | {text} | {shown} |"


def on_files(files, *, config):  # type: ignore[no-untyped-def]
    """Add the page."""
    files.append(File.generated(config, "command-line.md", content=page()))
    return files
