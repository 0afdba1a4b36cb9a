"""The command line: one command a file, thin; quick to say --help, for each imports what it needs.

Exit codes: 0 done, 1 an error that its message explains, or findings of ``check``, 2 wrong usage,
130 Ctrl-C. With ``--json`` standard output holds exactly one JSON document: what the command
found, or ``{"error": {"kind": ..., "message": ...}}``; everything else goes to standard error.
"""

from coarsegrad.cli.entry import app, main

__all__ = ["app", "main"]
