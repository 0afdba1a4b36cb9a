"""torch.compile(optimizer.step): the eager step, traced once and not again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.optim import Optimizer

from coarsegrad.optim import RVS, BAMSProd, Lookahead
from optim.composites import COMPOSITES, net
from optim.table import CASES, RULES, Case, assert_same, give, gradients, parameters, rules

# What torch 2.13's dynamo says of itself while it traces torch.optim's wrapper of step.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*record_function.*will be ignored"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def traced_calls(
    compiled: Optimizer,
    eager: Optimizer,
    calls: int,
    backend: str,
    between: Callable[[], object] = lambda: None,
) -> list[int]:
    """Step both, the first compiled, and return how many graphs each call traced."""
    counts: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        counts[-1] += 1
        if backend == "eager":
            return graph.forward
        return torch._dynamo.lookup_backend(backend)(graph, inputs)  # type: ignore[no-any-return]

    step = torch.compile(compiled.step, backend=count)
    for call in range(calls):
        for opt in (compiled, eager):
            give(parameters(opt), gradients(parameters(opt), call))
        counts.append(0)
        step()
        eager.step()
        between()
    return counts


@rules
def test_the_second_call_is_not_traced(case: Case) -> None:
    compiled, eager = case.build(case.weights()), case.build(case.weights(), "traced")
    assert traced_calls(compiled, eager, 4, "eager") == [1, 0, 0, 0]
    assert_same(eager, compiled, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites_keep_their_state(name: str) -> None:
    """Lookahead counts in Python, RVS adds state after a step: their second call is traced."""
    compiled, eager = (COMPOSITES[name](net()) for _ in range(2))
    graphs = traced_calls(compiled, eager, 6, "eager")
    assert graphs[0] > 0
    assert sum(graphs[2 if isinstance(compiled, (Lookahead, RVS)) else 1 :]) == 0
    assert_same(eager, compiled, rtol=1e-5, atol=1e-6)


def test_a_rate_in_a_tensor_may_change() -> None:
    """A float would be a constant of the graph."""
    case = next(case for case in CASES if case.rule is BAMSProd)
    lr = torch.tensor(0.1)
    compiled, eager = case.build(case.weights(), lr=lr), case.build(case.weights(), lr=lr)
    schedule = torch.optim.lr_scheduler.StepLR(compiled, 1)
    assert traced_calls(compiled, eager, 4, "eager", schedule.step) == [1, 0, 0, 0]
    assert float(lr) == pytest.approx(1e-5)
    assert_same(eager, compiled, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_inductor_is_eager(case: Case) -> None:
    shapes = [(8, 9), (3, 2, 2, 2), (5,)]
    compiled = case.build(case.weights(torch.float32, shapes))
    eager = case.build(case.weights(torch.float32, shapes))
    assert traced_calls(compiled, eager, 6, "inductor") == [1, 0, 0, 0, 0, 0]
    assert_same(eager, compiled, rtol=2e-5, atol=2e-6)


def test_the_count_can_fail() -> None:
    """A Python number that changes between calls must be seen as a recompilation."""
    case = RULES[0]
    compiled, eager = case.build(case.weights()), case.build(case.weights())
    traced = []
    for lr in (0.1, 0.2):
        compiled.param_groups[0]["lr"] = lr
        traced.append(traced_calls(compiled, eager, 1, "eager")[0])
    assert traced == [1, 1]
