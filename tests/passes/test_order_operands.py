"""Constants stand second in commutative operators."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from relaxc.passes.order_operands import order_operands

X = relax.Var("x", relax.TensorType((2, 3), "float32"))
TWO = relax.const(np.full((2, 3), 2, np.float32))


def module_of(expr: relax.Expr) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    with builder.function("main", [X]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit(expr)]))
        builder.emit_func_output(result)
    return builder.get()


@pytest.mark.parametrize("operator", [relax.op.add, relax.op.multiply, relax.op.maximum, relax.op.minimum])
def test_a_constant_changes_places_with_a_value(operator: relax.Expr) -> None:
    tvm.ir.assert_structural_equal(order_operands(module_of(operator(TWO, X))), module_of(operator(X, TWO)))


@pytest.mark.parametrize("operator", [relax.op.subtract, relax.op.divide, relax.op.power])
def test_other_operators_keep_their_order(operator: relax.Expr) -> None:
    module = module_of(operator(TWO, X))
    tvm.ir.assert_structural_equal(order_operands(module), module)


def test_two_values_and_two_constants_keep_their_order() -> None:
    for module in (module_of(relax.op.add(X, X)), module_of(relax.op.add(TWO, relax.const(np.float32(1))))):
        tvm.ir.assert_structural_equal(order_operands(module), module)
