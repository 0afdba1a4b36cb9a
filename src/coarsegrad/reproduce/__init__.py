"""What papers report, measured again: a folder a paper, a file an item (a figure or a table).

An item is a module with ``run(request: Request) -> Report`` that writes its CSV and PNG into
``request.out`` and says, statement by statement, what the paper claims and what came out; one that
can run in part has ``FILTERS``, see ``check_only``; one that trains a network has ``TRAINS =
True``, see ``trains``. To add one: ``reproduce/PAPER/ITEM.py``, its name in that folder's
``ITEMS``. To add a paper: a folder whose ``__init__.py`` has a docstring and ``ITEMS``.
"""

from coarsegrad.reproduce.ledger import Ledger
from coarsegrad.reproduce.papers import Paper, check_only, paper, papers, run, trains
from coarsegrad.reproduce.record import Record, recorded
from coarsegrad.reproduce.report import Comparison, Report, Request

__all__ = [
    "Comparison", "Ledger", "Paper", "Record", "Report", "Request", "check_only", "paper", "papers",
    "recorded", "run", "trains",
]  # fmt: skip
