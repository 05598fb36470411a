"""Elementary functions on all magnitudes of float32, special values among them, against float64."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax, te, tirx
from tvm.s_tir import Schedule

from relaxc.targets.cpu.tir_pipeline import TIR_PIPELINE
from tests.targets.kernel_workloads import CompiledWorkloads, Workload

MAX_ULP = 3.0
STEP = 4093
"""A prime: every STEP-th bit pattern is about a million numbers, with all exponents and mixed mantissas."""

Operator = Callable[[relax.Expr], relax.Expr]
FUNCTIONS: dict[str, tuple[Operator, Callable[[np.ndarray], np.ndarray]]] = {
    "exp": (relax.op.exp, np.exp),
    "sigmoid": (relax.op.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (relax.op.tanh, np.tanh),
    "erf": (relax.op.erf, lambda x: np.vectorize(math.erf)(x)),
    "log": (relax.op.log, np.log),
}
SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, 1.1754944e-38, np.inf, -np.inf], np.float32)
EVERY_MAGNITUDE = np.concatenate([np.arange(0, 2**32, STEP, dtype=np.uint32).view(np.float32), SPECIAL])
USUAL = np.linspace(-20, 20, 1 << 20, dtype=np.float32)

ExactCall = Callable[[str, np.ndarray], np.ndarray]


def compiled(target: str) -> ExactCall:
    """The functions in machine code for ``target``, on vectors of any length."""
    empty = np.zeros(1, np.float32)
    kind = frozenset({"elementwise"})
    workloads = [Workload(name, op, [empty], empty, kind, [["n"]]) for name, (op, _) in FUNCTIONS.items()]
    machine_code = CompiledWorkloads(workloads, target)
    return lambda name, x: machine_code(list(FUNCTIONS).index(name), [x])


@pytest.fixture(scope="module")
def native() -> ExactCall:
    return compiled("native")


def exact(name: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return FUNCTIONS[name][1](x.astype(np.float64))


def ulps(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The error in units of the last place of the float32 nearest to ``expected``."""
    with np.errstate(all="ignore"):
        nearest = expected.astype(np.float32)
        error = np.abs(actual.astype(np.float64) - expected) / np.spacing(np.abs(nearest)).astype(np.float64)
    same = (actual == nearest) | (np.isnan(actual) & np.isnan(nearest))
    return np.asarray(np.where(same, 0.0, error))


def assert_accurate(function: ExactCall, name: str, x: np.ndarray) -> None:
    errors = ulps(function(name, x), exact(name, x))
    worst = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
    assert errors[worst] <= MAX_ULP, f"{name}({x[worst]!r}) is {errors[worst]:.2f} ulp off"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_magnitude_is_accurate(native: ExactCall, name: str) -> None:
    assert_accurate(native, name, EVERY_MAGNITUDE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_usual_range_is_accurate(native: ExactCall, name: str) -> None:
    assert_accurate(native, name, USUAL)


def test_avx2_computes_the_same_accuracy(avx2: str) -> None:
    function = compiled(avx2)
    for name in FUNCTIONS:
        assert_accurate(function, name, EVERY_MAGNITUDE[::16])
        assert_accurate(function, name, USUAL[::16])


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_of_zero(native: ExactCall, name: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    np.testing.assert_array_equal(np.signbit(native(name, zeros)), [False, True])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_nan(native: ExactCall, name: str) -> None:
    assert np.isnan(native(name, np.full(33, np.nan, np.float32))).all()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("exp", 0.0, np.inf),
        ("sigmoid", 0.0, 1.0),
        ("tanh", -1.0, 1.0),
        ("erf", -1, 1),
        ("log", np.nan, np.inf),
    ],
)
def test_infinities_give_the_limits(native: ExactCall, name: str, low: float, high: float) -> None:
    infinities = np.array([-np.inf, np.inf], np.float32)
    np.testing.assert_array_equal(native(name, infinities), np.array([low, high], np.float32))


def test_small_results_of_exp_are_denormal_numbers(native: ExactCall) -> None:
    x = np.linspace(-104, -87, 1001, dtype=np.float32)
    assert_accurate(native, "exp", x)
    assert (native("exp", x)[1:-100] > 0).any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_doubles_have_a_lowering_of_their_own(name: str) -> None:
    x = np.linspace(-3, 3, 100)
    operator, expected = FUNCTIONS[name]
    doubles = CompiledWorkloads([Workload(name, operator, [x], x, frozenset({"elementwise"}))])
    np.testing.assert_allclose(doubles(0, [x]), expected(x), rtol=1e-14)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_may_decide(name: str) -> None:
    """TVM's analyzers apply the rules of algebra to conditions; sums that are to be rounded outlast that."""
    x, y = (te.placeholder((100,), "float32", name=parameter) for parameter in "xy")

    def cosine_of_smaller(i: tirx.Var) -> tirx.Expr:
        value = getattr(tirx, name)(x(i))
        return tirx.cos(tirx.Select(tirx.Or(value < y(i), tirx.isnan(value)), value, y(i)))

    kernel = te.create_prim_func([x, y, te.compute((100,), cosine_of_smaller, name="z")])
    library = tirx.build(kernel, tvm.target.Target("llvm"), pipeline=TIR_PIPELINE)
    numbers = np.linspace(-3, 3, 100, dtype=np.float32)
    result = tvm.runtime.tensor(np.zeros_like(numbers))
    library(tvm.runtime.tensor(numbers), tvm.runtime.tensor(np.full(100, 0.5, np.float32)), result)
    expected = np.cos(np.minimum(exact(name, numbers), 0.5))
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_a_function_of_a_function_compiles_in_seconds() -> None:
    """TVM puts the values of variables in their places, and doubles them at each selection."""
    x = te.placeholder((100,), "float32", name="x")
    twice = te.compute((100,), lambda i: tirx.exp(-tirx.exp(-x(i))), name="y")
    started = time.process_time()
    library = tirx.build(te.create_prim_func([x, twice]), tvm.target.Target("llvm"), pipeline=TIR_PIPELINE)
    assert time.process_time() - started < 5
    numbers = np.linspace(-3, 3, 100, dtype=np.float32)
    result = tvm.runtime.tensor(np.zeros_like(numbers))
    library(tvm.runtime.tensor(numbers), result)
    np.testing.assert_allclose(result.numpy(), np.exp(-np.exp(-numbers.astype(np.float64))), rtol=1e-5)


@pytest.mark.parametrize("name", ["erf", "log1p", "nearbyint", "isnan"])
def test_lanes_are_computed_at_once(name: str) -> None:
    x, y = (tirx.decl_buffer((16,), "float32", buffer) for buffer in "xy")
    lane = tirx.Var("lane", "int32")
    value = getattr(tirx, name)(tirx.BufferLoad(x, [lane])).astype("float32")
    loop = tirx.For(lane, 0, 16, tirx.ForKind.VECTORIZED, tirx.BufferStore(y, value, [lane]))
    function = tirx.PrimFunc([x, y], loop)
    lowered = tirx.transform.VectorizeLoop()(tvm.IRModule({"main": function}))
    assert not isinstance(lowered["main"].body, tirx.For)


@pytest.mark.parametrize(("name", "exact"), [("erf", np.vectorize(math.erf)), ("log1p", np.log1p)])
def test_doubles_are_computed_lane_by_lane_where_llvm_has_no_vectors(
    name: str, exact: Callable[[np.ndarray], np.ndarray]
) -> None:
    x = te.placeholder((16,), "float64", name="x")
    result = te.compute((16,), lambda i: getattr(tirx, name)(tirx.exp(-tirx.abs(x(i)))), name="y")
    schedule = Schedule(te.create_prim_func([x, result]))
    schedule.vectorize(schedule.get_loops("y")[0])
    library = tirx.build(schedule.mod, tvm.target.Target("llvm"), pipeline=TIR_PIPELINE)
    numbers, computed = np.linspace(-3, 3, 16), tvm.runtime.tensor(np.zeros(16))
    library["main"](tvm.runtime.tensor(numbers), computed)
    np.testing.assert_allclose(computed.numpy(), exact(np.exp(-np.abs(numbers))), rtol=1e-14)
