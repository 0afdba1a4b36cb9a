"""(L0, L1)-smoothness, and why clipping accelerates, in float64.

Zhang, He, Sra, Jadbabaie, "Why Gradient Clipping Accelerates Training: A Theoretical Justification
for Adaptivity", ICLR 2020, arXiv:1905.11881: functions with known constants, the methods and their
bounds, contests between them, and the fit of L0 and L1 to what was measured along a run.
"""

from coarsegrad.theory.smoothness.bounds import (
    Clipping,
    clipped_bound,
    clipped_order,
    clipping,
    gap_bound,
    gd_bound,
    gd_lower_bound,
    gd_step,
    rise_bound,
    steep_limit,
)
from coarsegrad.theory.smoothness.contest import (
    Count,
    Plane,
    class_experiment,
    growth_exponent,
    proved_steps,
    tuned_steps,
)
from coarsegrad.theory.smoothness.curves import (
    Constants,
    Curve,
    bowl,
    constants_of,
    flat,
    hyperbolic,
    monomial,
    steep,
)
from coarsegrad.theory.smoothness.descent import (
    Descent,
    clipped_rate,
    descend,
    fixed_rate,
    normalised_rate,
)
from coarsegrad.theory.smoothness.fit import (
    envelope,
    least_squares,
    log_correlation,
    smoothness_along,
)

__all__ = [
    "Clipping", "Constants", "Count", "Curve", "Descent", "Plane", "bowl", "class_experiment",
    "clipped_bound", "clipped_order", "clipped_rate", "clipping", "constants_of", "descend",
    "envelope", "fixed_rate", "flat", "gap_bound", "gd_bound", "gd_lower_bound", "gd_step",
    "growth_exponent", "hyperbolic", "least_squares", "log_correlation", "monomial",
    "normalised_rate", "proved_steps", "rise_bound", "smoothness_along", "steep", "steep_limit",
    "tuned_steps",
]  # fmt: skip
