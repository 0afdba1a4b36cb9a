"""What papers report, measured again: a folder a paper, a file an item (a figure or a table).

An item is a module with ``run(request: Request) -> Report`` that writes its CSV and PNG into
``request.out`` and says, statement by statement, what the paper claims and what came out. To add
one: ``reproduce/PAPER/ITEM.py``, its name in that folder's ``ITEMS``. To add a paper: a folder
whose ``__init__.py`` has a docstring and ``ITEMS``.
"""

from coarsegrad.reproduce.papers import Paper, paper, papers, run
from coarsegrad.reproduce.record import Record, recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

__all__ = [
    "Comparison", "Paper", "Record", "Report", "Request", "paper", "papers", "recorded", "run",
]  # fmt: skip
