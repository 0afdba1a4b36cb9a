"""A trained torch model -> packed file, and the proof that both compute the same."""

from coarsegrad.deploy.capture import trace
from coarsegrad.deploy.pack import pack, to_program
from coarsegrad.deploy.verify import LayerReport, Report, verify

__all__ = ["LayerReport", "Report", "pack", "to_program", "trace", "verify"]
