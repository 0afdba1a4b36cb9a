"""Each twin walks the path of the optimizer class it stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from coarsegrad.optim import AdaBound, AMSBound, BAMSProd, Bop
from coarsegrad.theory.online import (
    ARRAYS,
    FLOATS,
    Setting,
    Twin,
    adabound,
    adagrad,
    adam,
    amsbound,
    amsgrad,
    bamsprod,
    bop,
    plugged,
    sgd,
)

Make = Callable[..., torch.optim.Optimizer]
BOX = (-1.0, 1.0)
_ours = partial(BAMSProd, rho_min=0.05, alpha=0.7)
_twin = partial(bamsprod, rho_min=0.05, alpha=0.7)

# twin, class, whether both have bias correction, whether the rate falls
PAIRS: dict[str, tuple[Twin, Make, bool, bool]] = {
    "SGD": (sgd, torch.optim.SGD, False, True),
    "AdaGrad": (adagrad, partial(torch.optim.Adagrad, eps=1e-8), False, False),
    "Adam": (adam, torch.optim.Adam, True, True),
    "AMSGrad": (amsgrad, partial(torch.optim.Adam, amsgrad=True), True, True),
    "AdaBound": (adabound, AdaBound, True, True),
    "AdaBound, no correction": (adabound, partial(AdaBound, bias_correction=False), False, True),
    "AMSBound": (amsbound, AMSBound, True, False),
    "Bop": (bop, partial(Bop, gamma=1e-2, threshold=1e-6), False, False),
    "relative": (_twin, _ours, True, True),
    "relative, no correction": (_twin, partial(_ours, bias_correction=False), False, True),
    "grad": (partial(_twin, cstar="grad"), partial(_ours, cstar="grad"), True, False),
    "constant": (partial(_twin, cstar="constant", c=2.0, gamma=0.01),
                 partial(_ours, cstar="constant", c=2.0, gamma=0.01), True, True),
    "literal": (partial(_twin, cstar="literal", L_inf=0.3),
                partial(_ours, cstar="literal", L_inf=0.3), True, True),
}  # fmt: skip


def paths(name: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the twin and of the class on the same random gradients."""
    twin, make, corrected, falls = PAIRS[name]
    betas = (0.9, 0.99)
    setting = Setting(eta=0.1, betas=betas, bias_correction=corrected,
                      invsqrt=falls or name == "AdaGrad")  # fmt: skip
    options: dict[str, Any] = {} if name == "Bop" else {"lr": 0.1}
    if name not in ("SGD", "AdaGrad", "Bop"):
        options["betas"] = betas
    ours = twin(setting, FLOATS)
    theirs = plugged(lambda w: make([w], **options), invsqrt=falls, box=BOX)
    a = b = 1.0 if name == "Bop" else 0.5
    found = []
    for t, g in enumerate(np.random.default_rng(0).normal(0.3, 1.0, steps).tolist(), 1):
        # The pull changes sides, so that the weight crosses 0 and leaves the box's ends.
        g = g - 0.6 * (t // 50 % 2)
        a, b = ours(a, g, t)[0], theirs(b, g, t)[0]
        found.append((a, b))
    pairs = np.array(found)
    return pairs[:, 0], pairs[:, 1]


@pytest.mark.parametrize("name", PAIRS)
def test_a_twin_is_its_class(name: str) -> None:
    a, b = paths(name, 300)
    assert np.abs(a - b).max() < 1e-6  # eps stands inside or outside of a root
    assert len(np.unique(a)) >= (2 if name == "Bop" else 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_twin_is_its_class_for_long(name: str) -> None:
    a, b = paths(name, 10_000)
    assert np.abs(a - b).max() < 1e-6


ELEMENTWISE: dict[str, Twin] = {
    "sgd": sgd, "adagrad": adagrad, "adam": adam, "amsgrad": amsgrad, "adabound": adabound,
    "bop": bop, "relative": bamsprod,
    "literal": partial(bamsprod, cstar="literal", own_step=True, stay=True),
    "sum": partial(bamsprod, cstar="literal", reduce="sum"),
}  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_arrays_are_runs_side_by_side(name: str) -> None:
    etas = (0.05, 0.2)
    draws = np.random.default_rng(1).normal(0.2, 1.0, (200, 2))
    many = ELEMENTWISE[name](Setting(eta=np.array(etas)), ARRAYS)
    single = [ELEMENTWISE[name](Setting(eta=eta), FLOATS) for eta in etas]
    w: Any = np.ones(2)
    x = [1.0, 1.0]
    for t, g in enumerate(draws, 1):
        w = many(w, g, t)[0]
        x = [step(x[i], float(g[i]), t)[0] for i, step in enumerate(single)]
        np.testing.assert_allclose(w, x, rtol=0, atol=1e-13)


def test_before_the_first_gradient_nothing_locks() -> None:
    step = bamsprod(Setting(), FLOATS)
    w = 0.5
    for t in range(1, 6):
        w = step(w, 0.0, t)[0]
    w, value, _ = step(w, 1.0, 6)
    assert w < 0.5
    assert 0 < value < 0.1
    mixed = bamsprod(Setting(), ARRAYS)
    with pytest.raises(ValueError, match="see their first gradient in the same step"):
        mixed(np.ones(2), np.array([0.0, 1.0]), 1)


@pytest.mark.parametrize(("options", "said"), [
    ({"cstar": "printed"}, "cstar of relative, grad, constant, literal, got 'printed'"),
    ({"reduce": "ema"}, "reduce of mean, sum, got 'ema'"),
    ({"rho_min": 0.0}, r"rho_min in \(0, 1\], got 0.0"),
])  # fmt: skip
def test_bad_limits(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bamsprod(Setting(), FLOATS, **options)


@pytest.mark.parametrize(("options", "said"), [
    ({"eta": -0.1}, "eta finite and > 0, got -0.1"),
    ({"eta": np.array([0.1, np.nan])}, "eta finite and > 0"),
    ({"betas": (0.9, 1.0)}, r"betas in \[0, 1\)"),
    ({"eps": 0.0}, "eps finite and > 0"),
    ({"box": (1.0, -1.0)}, "low < high"),
    ({"beta1_decay": "linear"}, "constant, power or inverse, got 'linear'"),
    ({"beta1_decay": "power", "betas": (0.9, 0.5)}, r"beta1 < sqrt\(beta2\)"),
    ({"beta1_decay": "inverse", "bias_correction": True}, "a constant beta1"),
])  # fmt: skip
def test_bad_settings(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Setting(**options)


def test_adagrad_has_a_rate_of_its_own() -> None:
    with pytest.raises(ValueError, match="invsqrt=True, got False"):
        adagrad(Setting(invsqrt=False), FLOATS)
