"""Online convex optimisation: Adam's counterexamples, BAMSProd's bounds, in float64.

Liu et al., "BAMSProd", CVPRW 2020, arXiv:2009.13799, sections 3 and 4; Reddi et al., "On the
Convergence of Adam and Beyond", ICLR 2018; Luo et al., AdaBound, ICLR 2019.
"""

from coarsegrad.theory.online.bounded import bamsprod
from coarsegrad.theory.online.bounds import Bound, corrected, printed_corollary, printed_theorem
from coarsegrad.theory.online.game import Mark, marks, play
from coarsegrad.theory.online.lottery import Drawn, Lottery
from coarsegrad.theory.online.monitors import Monitor, moment, monitors, upsilon
from coarsegrad.theory.online.numbers import ARRAYS, FLOATS, Numbers, numbers_for
from coarsegrad.theory.online.plug import play_torch, plugged
from coarsegrad.theory.online.problems import (
    TOYS,
    Problem,
    Quadratic,
    Toy,
    printed1,
    reddi1,
    reddi2,
    repaired1,
)
from coarsegrad.theory.online.rules import (
    adabound,
    adagrad,
    adam,
    amsbound,
    amsgrad,
    bop,
    projection,
    sgd,
)
from coarsegrad.theory.online.setting import Setting
from coarsegrad.theory.online.trace import Trace, trace
from coarsegrad.theory.online.twins import Twin, twins

__all__ = [
    "ARRAYS", "FLOATS", "TOYS", "Bound", "Drawn", "Lottery", "Mark", "Monitor", "Numbers",
    "Problem", "Quadratic", "Setting", "Toy", "Trace", "Twin", "adabound", "adagrad", "adam",
    "amsbound", "amsgrad", "bamsprod", "bop", "corrected", "marks", "moment", "monitors",
    "numbers_for", "play", "play_torch", "plugged", "printed1", "printed_corollary",
    "printed_theorem", "projection", "reddi1", "reddi2", "repaired1", "sgd", "trace", "twins",
    "upsilon",
]  # fmt: skip
