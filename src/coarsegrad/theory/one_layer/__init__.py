"""The one-layer network with binarized ReLU of Dinh and Xin 2020, and RVSCGD on it, in float64.

Front. Appl. Math. Stat. 6:13. The population loss and its gradients in closed form and by Monte
Carlo, Algorithm 1, the conditions of its descent and the equations of its limit.
"""

from coarsegrad.theory.one_layer.descent import (
    Lemma6,
    Limit,
    angle_margin,
    lemma4_slack,
    lemma6,
    limit,
    lipschitz_ratio,
)
from coarsegrad.theory.one_layer.network import SLOPE, OneLayer, angle, direction
from coarsegrad.theory.one_layer.rvscgd import Penalty, Run, Splitting, rvscgd
from coarsegrad.theory.one_layer.sampling import (
    Estimate,
    Moments,
    moments,
    sampled_coarse_gradient,
    sampled_loss,
)
from coarsegrad.theory.one_layer.teachers import Entries, random_starts, sparse_teachers

__all__ = [
    "SLOPE", "Entries", "Estimate", "Lemma6", "Limit", "Moments", "OneLayer", "Penalty", "Run",
    "Splitting", "angle", "angle_margin", "direction", "lemma4_slack", "lemma6", "limit",
    "lipschitz_ratio", "moments", "random_starts", "rvscgd", "sampled_coarse_gradient",
    "sampled_loss", "sparse_teachers",
]  # fmt: skip
