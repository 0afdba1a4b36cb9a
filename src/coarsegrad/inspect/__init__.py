"""A model on the table: what it costs, layer by layer, and what is wrong with it."""

from coarsegrad.inspect.check import check
from coarsegrad.inspect.count import Counts
from coarsegrad.inspect.findings import Finding, Findings, NotApplied
from coarsegrad.inspect.summary import Row, Summary, summary

__all__ = [
    "Counts", "Finding", "Findings", "NotApplied", "Row", "Summary", "check", "summary",
]  # fmt: skip
