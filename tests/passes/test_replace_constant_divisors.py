"""Division by a constant becomes multiplication, where the reciprocal is a normal number."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from relaxc.passes.replace_constant_divisors import replace_constant_divisors
from tests.passes.module_summary import results

X = relax.Var("x", relax.TensorType((4,), "float32"))


def module_of(expr: relax.Expr, value: relax.Var = X) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    with builder.function("main", [value]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit(expr)]))
        builder.emit_func_output(result)
    return builder.get()


def test_division_becomes_multiplication() -> None:
    before = module_of(relax.op.divide(X, relax.const(np.array([2, 3, -5, 1e30], np.float32))))
    reciprocals = np.float32(1) / np.array([2, 3, -5, 1e30], np.float32)
    after = module_of(relax.op.multiply(X, relax.const(reciprocals)))
    tvm.ir.assert_structural_equal(replace_constant_divisors(before), after)


@pytest.mark.parametrize("divisor", [0.0, -0.0, np.inf, np.nan, 1e-40, 3e38])
def test_a_divisor_without_a_normal_reciprocal_stays(divisor: float) -> None:
    module = module_of(relax.op.divide(X, relax.const(np.array([2, 2, 2, divisor], np.float32))))
    tvm.ir.assert_structural_equal(replace_constant_divisors(module), module)


def test_a_scalar_stays_a_scalar() -> None:
    value = relax.Var("x", relax.TensorType((), "float32"))
    after = module_of(relax.op.multiply(value, relax.const(np.float32(1 / 3))), value)
    before = module_of(relax.op.divide(value, relax.const(np.float32(3))), value)
    tvm.ir.assert_structural_equal(replace_constant_divisors(before), after)


def test_other_types_and_values_stay() -> None:
    integers, doubles = (relax.Var("x", relax.TensorType((4,), dtype)) for dtype in ("int32", "float64"))
    for value, operand in (
        (integers, relax.const(np.int32(3))),
        (doubles, relax.const(np.float64(3), "float64")),
        (X, X),
    ):
        module = module_of(relax.op.divide(value, operand), value)
        tvm.ir.assert_structural_equal(replace_constant_divisors(module), module)


def test_the_error_is_at_most_one_and_a_half_units() -> None:
    random = np.random.default_rng(0)
    x, divisor = (random.standard_normal(4096).astype(np.float32) for _ in range(2))
    value = relax.Var("x", relax.TensorType((4096,), "float32"))
    module = replace_constant_divisors(module_of(relax.op.divide(value, relax.const(divisor)), value))
    exact = x.astype(np.float64) / divisor
    assert np.max(np.abs(results(module, x)[0] - exact) / np.spacing(np.abs(exact).astype(np.float32))) <= 1.5
