"""A model on the table: what it costs, layer by layer, and what is wrong with it."""

from coarsegrad.inspect.check import check
from coarsegrad.inspect.count import Counts
from coarsegrad.inspect.findings import Finding, Findings, Measured, NotApplied
from coarsegrad.inspect.report import Row, Summary
from coarsegrad.inspect.summary import summary

__all__ = [
    "Counts", "Finding", "Findings", "Measured", "NotApplied", "Row", "Summary", "check", "summary",
]  # fmt: skip
