"""The fused optimizer steps against float64, for every target, size, option and threads."""

import copy
import functools
import math

import numpy as np
import pytest

from . import optim_rules as rules
from .conftest import RUNNABLE, native

optim = native.optim

# Targets that differ in bits share their optimizer kernels.
NAMES = [name for name in RUNNABLE if name not in ("popcnt", "avx512vpopcnt")]


@pytest.fixture(params=NAMES)
def target(request):
    return request.param


# Ragged against sixteen lanes, blocks of 256 and chunks of 16384; channels shorter and longer.
SHAPES = (
    (), (1,), (7,), (16,), (33,), (16383,), (16385,), (0,), (0, 3), (1, 1), (5, 1), (3, 7),
    (64, 9), (300, 64), (9, 2341), (1, 16384), (2, 16385), (1, 33001),
)  # fmt: skip


class Native:
    """Tensors in float32 with poisoned surroundings, stepped by one call."""

    def __init__(self, weights, columns=None, second=("v", "vhat"), record=True):
        self.weights = weights
        self.parts = [self.tensor(w) for w in weights]
        self.names = {"w", "g", "m", *second}
        columns = columns or [1] * len(weights)
        self.bounds = [np.concatenate([np.zeros((3, k)), np.full((1, k), np.inf)]) for k in columns]
        self.records = [np.full(6 + 2 * k, np.nan) for k in columns] if record else None
        self.steps = [np.zeros((), np.float32) for _ in weights]

    @staticmethod
    def tensor(w):
        parts = {name: np.zeros(w.size + 32, np.float32) for name in ("w", "g", "m", "v", "vhat")}
        for part in parts.values():
            part[:16] = part[-16:] = -12345
        parts["w"][16:-16] = w.ravel()
        return parts

    def get(self, i, name):
        return self.parts[i][name][16:-16]

    def step(self, call, gradients, options, *, bounded=True, threads=1, target=None):
        for i, g in enumerate(gradients):
            self.get(i, "g")[:] = g.ravel()
        columns = [
            [self.get(i, name).ctypes.data if name in self.names else 0
             for i in range(len(self.weights))] for name in ("w", "g", "m", "v", "vhat")
        ]  # fmt: skip
        none = [0] * len(self.weights)
        columns.append([step.ctypes.data for step in self.steps])
        columns.append([b.ctypes.data for b in self.bounds] if bounded else none)
        columns.append([r.ctypes.data for r in self.records] if self.records else none)
        columns.append([w.size for w in self.weights])
        columns.append([w.shape[0] if w.ndim > 1 else 1 for w in self.weights])
        call([x for column in columns for x in column], threads, **options, target=target)
        for parts, g in zip(self.parts, gradients, strict=True):
            for part in parts.values():
                assert (part[:16] == -12345).all()
                assert (part[-16:] == -12345).all()
            np.testing.assert_array_equal(parts["g"][16:-16], g.ravel())

    def everything(self):
        found = {f"bounds{i}": b for i, b in enumerate(self.bounds)}
        for i, parts in enumerate(self.parts):
            found |= {f"{name}{i}": part for name, part in parts.items()}
        found |= {f"record{i}": r for i, r in enumerate(self.records or [])}
        return found | {"steps": np.array(self.steps)}


def data(shapes, steps, seed=0):
    rng = np.random.default_rng(seed)
    weights = [(rng.random(shape) * 1.6 - 0.8).astype(np.float32) for shape in shapes]
    gradients = [
        [(rng.standard_normal(shape) * 10.0 ** -(t % 3)).astype(np.float32) for shape in shapes]
        for t in range(steps)
    ]
    return weights, gradients


def columns_of(shapes, options):
    return tuple(s[0] if options.get("by_channel") and len(s) > 1 else 1 for s in shapes)


def close(found, wanted, scale, what):
    np.testing.assert_allclose(found, wanted.ravel(), rtol=2e-5, atol=2e-6 * scale, err_msg=what)


@functools.cache
def twins_after(rule, shapes, options, steps, columns, weights_are_signs=False):
    """Twins of all non-empty tensors after each step; options as items, to be remembered."""
    weights, gradients = data(shapes, steps)
    if weights_are_signs:
        weights = [signs(w) for w in weights]
    pairs = enumerate(zip(weights, columns, strict=True))
    twins = {i: rules.State(w, k) for i, (w, k) in pairs if w.size}
    found = []
    for step in gradients:
        for i, twin in twins.items():
            rule(twin, step[i], dict(options))
        found.append(copy.deepcopy(twins))
    return found


def signs(w):
    return np.where(w < 0, np.float32(-1), np.float32(1))


def check(mine, i, twin, *, bounds=True):
    close(mine.get(i, "m"), twin.m, 1, "m")
    if "v" in mine.names:
        close(mine.get(i, "v"), twin.v, 1e-3, "v")
    if "vhat" in mine.names:
        close(mine.get(i, "vhat"), twin.vhat, 1e-3, "vhat")
    close(mine.get(i, "w"), twin.w, 1, "w")
    assert mine.steps[i] == twin.t
    if bounds:
        np.testing.assert_allclose(mine.bounds[i], twin.bounds, rtol=1e-5)
    if mine.records and twin.w.size:
        record = mine.records[i]
        np.testing.assert_allclose(record[[0, 5]], twin.record[[0, 5]], rtol=1e-5)
        # Rounding may put a few of many elements on the other side of a bound.
        few = 2.5 / twin.w.size + 1e-4 if twin.w.size > 99 else 0
        np.testing.assert_allclose(record[1:5], twin.record[1:5], atol=few, rtol=1e-12)


BAMSPROD_CASES = [
    {},
    {"by_channel": True},
    {"maximize": True},
    {"weight_decay": 0.1, "inverse_sqrt": True},
    {"bias_correction": False},
    {"beta1_decay": "power", "beta1_lambda": 0.8},
    {"beta1_decay": "inverse"},
    {"beta1": 0.0, "beta2": 0.9, "gamma": 0.1},
    {"beta1": 0.3},
    {"average": True},
    {"average": True, "by_channel": True, "sqrt_space": True},
    {"sqrt_space": True, "gamma": 0.05},
    {"cstar": "grad", "kappa": 2.0, "gamma": 1.0},
    {"cstar": "grad", "alpha": 0.3, "by_channel": True},
    {"cstar": "literal", "L_inf": 1e-3, "D_inf": 3.0},
    {"cstar": "literal", "L_inf": 1e-5, "by_channel": True},
    {"cstar": "constant", "gamma": 0.1},
    {"cstar": "constant", "gamma": 0.1, "by_channel": True, "sqrt_space": True},
    {"cstar": "constant", "average": True, "maximize": True},
    {"alpha": 0.4, "rho_min": 0.9},
    {"reduce": "ema", "memory": 0.7},
    {"reduce": "freeze", "memory": 2.0, "by_channel": True},
    {"box_low": -math.inf, "box_high": math.inf, "eps": 1e-2},
    {"box_low": 0.05, "box_high": 0.3},
]


def compare(mine, call, options, twins, gradients, *, target, bounded=False):
    for step, after in zip(gradients, twins, strict=True):
        mine.step(call, step, options, target=target, bounded=bounded)
        for i, twin in after.items():
            check(mine, i, twin, bounds=bounded)


@pytest.mark.parametrize("case", BAMSPROD_CASES, ids=str)
def test_bamsprod_equals_float64(target, case):
    options = rules.BAMSPROD | case
    # The error of a channel of one element is 0 but for rounding, and `literal` takes its root.
    literal = options["cstar"] == "literal"
    shapes = tuple(s for s in SHAPES if not (literal and s in [(), (1,), (1, 1), (5, 1)]))
    columns = columns_of(shapes, case)
    weights, gradients = data(shapes, 4)
    twins = twins_after(rules.bamsprod, shapes, tuple(options.items()), 4, columns)
    for record in (True, False):
        mine = Native(weights, columns, record=record)
        compare(mine, optim.bamsprod, options, twins, gradients, target=target, bounded=True)
        for i in {*range(len(shapes))} - {*twins[0]}:
            assert (mine.bounds[i][0] == 0).all()


@pytest.mark.parametrize("case", [{}, {"average": True}, {"cstar": "constant"}], ids=str)
def test_real_parameters_follow_amsgrad_unbounded(target, case):
    options = rules.BAMSPROD | case | {"box_low": -math.inf, "box_high": math.inf}
    weights, gradients = data(SHAPES, 4)
    twins = twins_after(rules.amsgrad, SHAPES, tuple(options.items()), 4, columns_of(SHAPES, {}))
    mine = Native(weights)
    compare(mine, optim.bamsprod, options, twins, gradients, target=target)
    assert (mine.records[-1][6:] == [0, math.inf]).all()


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"bias_correction": False, "weight_decay": 0.1, "maximize": True},
        {"base_lr": 0.0, "box_low": -0.3, "box_high": 0.2, "gamma": 1.0},
        {"lr": 0.0, "base_lr": 0.0},
        {"lr": 2e-3, "final_lr": 1e-2, "beta1": 0.2, "eps": 1e-3},
    ],
    ids=str,
)
@pytest.mark.parametrize("rule", [rules.adabound, rules.amsbound])
def test_bound_equals_float64(target, rule, case):
    options = rules.BOUND | case
    weights, gradients = data(SHAPES, 4)
    twins = twins_after(rule, SHAPES, tuple(options.items()), 4, columns_of(SHAPES, {}))
    mine = Native(weights, second=("v", "vhat") if rule is rules.amsbound else ("v",))
    compare(mine, optim.bound, options, twins, gradients, target=target)


@pytest.mark.parametrize(
    ("rule", "case"),
    [
        (rules.bop, {}),
        (rules.bop, {"rate": 0.9, "threshold": 0.0, "maximize": True}),
        (rules.bop2, {"sigma": 0.1, "threshold": 0.1}),
        (rules.bop2, {"sigma": 0.7, "threshold": 0.3, "unbiased": True, "eps": 1e-3}),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_bop_equals_float64(target, rule, case):
    options = rules.BOP | case
    weights, gradients = data(SHAPES, 4)
    columns = columns_of(SHAPES, {})
    twins = twins_after(rule, SHAPES, tuple(options.items()), 4, columns, weights_are_signs=True)
    mine = Native([signs(w) for w in weights], second=("v",) if rule is rules.bop2 else ())
    compare(mine, optim.bop, options, twins, gradients, target=target)


def test_bop_keeps_ties(target):
    weights = [np.array([1, -1, 1, -1], np.float32)]
    mine = Native(weights, second=())
    options = rules.BOP | {"rate": 1.0, "threshold": 0.5}
    above = np.nextafter(np.float32(0.5), np.float32(1))
    mine.step(optim.bop, [np.array([0.5, -0.5, above, -above], np.float32)], options,
              bounded=False, target=target)  # fmt: skip
    np.testing.assert_array_equal(mine.get(0, "w"), [1, -1, -1, 1])


def run_bamsprod(options, threads, target, shapes):
    weights, gradients = data(shapes, 3)
    mine = Native(weights, columns_of(shapes, options))
    for step in gradients:
        mine.step(optim.bamsprod, step, options, threads=threads, target=target)
    return mine.everything()


def same(a, b):
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize(
    "case",
    [{}, {"by_channel": True}, {"cstar": "constant"}, {"alpha": 0.5}, {"average": True}],
    ids=str,
)
def test_bamsprod_is_the_same_for_threads_and_targets(target, case):
    options = rules.BAMSPROD | case
    shapes = (*SHAPES, (40, 5000), (100003,))
    wanted = run_bamsprod(options, 1, "generic", shapes)
    for threads in (1, 2, 3, 8):
        same(run_bamsprod(options, threads, target, shapes), wanted)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(
    ("call", "options", "second"),
    [
        (optim.bound, rules.BOUND, ("v", "vhat")),
        (optim.bound, rules.BOUND, ("v",)),
        (optim.bop, rules.BOP, ()),
        (optim.bop, rules.BOP | {"sigma": 0.1}, ("v",)),
    ],
)
def test_the_others_are_the_same_for_threads_and_targets(target, call, options, second, threads):
    weights, gradients = data((*SHAPES, (100003,)), 3)

    def run(threads, target):
        mine = Native(weights, second=second)
        for step in gradients:
            mine.step(call, step, options, threads=threads, target=target, bounded=False)
        return mine.everything()

    same(run(threads, target), run(1, "generic"))


def test_sums_are_as_of_float64(target):
    """rho and c after one step, from the float32 weights and moments that the step left."""
    weights, gradients = data([(64, 4608), (500000,)], 1)
    mine = Native(weights)
    mine.step(optim.bamsprod, gradients[0], rules.BAMSPROD, target=target)
    for i, w in enumerate(weights):
        rows = w.shape[0] if w.ndim > 1 else 1
        left, vhat = (mine.get(i, n).astype(np.float64).reshape(rows, -1) for n in ("w", "vhat"))
        c, rho = rules.c_hat(left, vhat, rules.BAMSPROD)
        np.testing.assert_allclose(mine.bounds[i][1], c, rtol=2e-7)
        np.testing.assert_allclose(mine.records[i][0], rho, rtol=2e-7)


@pytest.mark.parametrize("cstar", ["relative", "constant"])
def test_nothing_is_learnt_of_bounds_without_a_gradient(target, cstar):
    options = rules.BAMSPROD | {"cstar": cstar, "by_channel": True}
    weights, gradients = data([(4, 20), (2, 20000)], 3)
    mine = Native(weights, [4, 2])
    zero = [np.zeros_like(g) for g in gradients[0]]
    late = [g.copy() for g in gradients[0]]
    for g in late:
        g[1:] = 0
    for step in (zero, zero, late):
        mine.step(optim.bamsprod, step, options, target=target)
    for i, rows in enumerate((4, 2)):
        np.testing.assert_array_equal(mine.bounds[i][0], [1] + [0] * (rows - 1))
        assert np.isinf(mine.bounds[i][3, 1:]).all()
        np.testing.assert_array_equal(mine.get(i, "w").reshape(rows, -1)[1:], weights[i][1:])


def test_a_constant_limit_asks_only_whether_there_has_been_a_gradient(target):
    options = rules.BAMSPROD | {"cstar": "constant"}
    weights, gradients = data([(4, 20)], 2)
    mine = Native(weights)
    mine.step(optim.bamsprod, gradients[0], options, target=target)
    gradients[1][0][0, 0] = np.nan
    mine.step(optim.bamsprod, gradients[1], options, target=target)
    assert mine.bounds[0][0, 0] == 2
    assert np.isfinite(mine.bounds[0]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_overflow_leaves_the_bounds_alone(target, bad):
    weights, gradients = data([(4, 20), (33,)], 2)
    mine = Native(weights)
    mine.step(optim.bamsprod, gradients[0], rules.BAMSPROD, target=target)
    before = [b.copy() for b in mine.bounds]
    for g in gradients[1]:
        g.ravel()[-1] = bad
    mine.step(optim.bamsprod, gradients[1], rules.BAMSPROD, target=target)
    for i in range(2):
        np.testing.assert_array_equal(mine.bounds[i], before[i])
        assert np.isfinite(mine.get(i, "w")[:-1]).all()


def test_a_ragged_list_is_refused():
    with pytest.raises(ValueError, match="ragged columns"):
        optim.bop([1, 2, 3], 1, **rules.BOP)
    with pytest.raises(ValueError, match="unknown option nonsense"):
        optim.bamsprod([], 1, **rules.BAMSPROD | {"cstar": "nonsense"})
