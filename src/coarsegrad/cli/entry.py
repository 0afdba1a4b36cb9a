"""The entry point: the commands as one program, and how it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from coarsegrad.cli.answer import answering, explain
from coarsegrad.cli.bench import bench
from coarsegrad.cli.check import check
from coarsegrad.cli.convert import convert
from coarsegrad.cli.demo import demo
from coarsegrad.cli.doctor import doctor
from coarsegrad.cli.pack import pack
from coarsegrad.cli.predict import predict
from coarsegrad.cli.reproduce import reproduce
from coarsegrad.cli.summary import summary
from coarsegrad.cli.train import train
from coarsegrad.cli.verify import verify

app = typer.Typer(
    name="coarsegrad",
    help="Train binary neural networks; ship them as packed bits that run without PyTorch.",
    epilog="""\b
SOURCE is a run folder (train makes one), a .cgrad file (pack makes one), or a
model of your own, package.module:function: a function without arguments that
returns a torch.nn.Module, or (module, example batch). The current folder is
importable; --weights loads trained weights into the model.

\b
--json prints one JSON document on standard output, and nothing else there.

\b
Exit codes: 0 done; 1 an error that its message explains, or findings of
check; 2 wrong usage; 130 Ctrl-C.""",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
"""The typer application that holds the commands."""
for _command in (
    train,
    summary,
    check,
    convert,
    pack,
    verify,
    predict,
    bench,
    demo,
    reproduce,
    doctor,
):
    app.command()(answering(_command))

# What typer calls wrong usage; its module's name differs between versions.
UsageError: Any = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"coarsegrad {version('coarsegrad')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors of coarsegrad become one sentence.

    Args:
        arguments: the words after ``coarsegrad``; those of the process unless given.
    """
    from coarsegrad.errors import CoarsegradError

    given = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    as_json = "--json" in given
    try:
        code = app(given, prog_name="coarsegrad", standalone_mode=False)
    except UsageError as error:
        if error.ctx is not None:
            command = error.ctx.command_path
            print(f"{error.ctx.get_usage()}\nhelp: {command} --help", file=sys.stderr)
        explain("UsageError", f"error: {error.format_message()}", as_json=as_json)
        return 2
    except (CoarsegradError, OSError, MemoryError) as error:
        message = str(error) or "out of memory"
        explain(type(error).__name__, f"error: {message}", as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0
