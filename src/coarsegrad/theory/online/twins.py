"""The rules by the names that tables and figures give them, with the settings of the toys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from coarsegrad.theory.online import rules
from coarsegrad.theory.online.bounded import bamsprod
from coarsegrad.theory.online.numbers import Numbers
from coarsegrad.theory.online.setting import Setting, Step

Twin = Callable[[Setting, Numbers], Step]


def twins(alpha: float = 1.0) -> dict[str, Twin]:
    """Return every rule by name; ``alpha`` is the binary scale that BAMSProd measures against.

    ``AdaBound, slow`` has bounds so wide that it is Adam for a million steps.

    >>> list(twins())[:4]
    ['SGD', 'AdaGrad', 'Adam', 'AMSGrad']
    """
    literal = partial(bamsprod, cstar="literal", alpha=alpha, own_step=True)
    return {
        "SGD": rules.sgd,
        "AdaGrad": rules.adagrad,
        "Adam": rules.adam,
        "AMSGrad": rules.amsgrad,
        "AdaBound": rules.adabound,
        "AMSBound": rules.amsbound,
        "AdaBound, slow": partial(rules.adabound, gamma=1e-6),
        "Bop": rules.bop,
        "BAMSProd": partial(bamsprod, alpha=alpha),
        "BAMSProd, grad": partial(bamsprod, cstar="grad"),
        "BAMSProd, constant": partial(bamsprod, cstar="constant"),
        "BAMSProd, literal": literal,
        "BAMSProd, literal, 1/0 = 0": partial(literal, stay=True),
        "BAMSProd, literal sum": partial(literal, reduce="sum"),
    }
