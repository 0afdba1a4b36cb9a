"""Figure 3: iterations to zero loss and norm of the weights against the angle of the classes."""

from __future__ import annotations

from coarsegrad.reproduce.report import Report, Request


def run(request: Request) -> Report:
    """Run the experiment of section 8.1."""
    raise NotImplementedError
