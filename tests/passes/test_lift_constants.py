"""Tensor constants become parameters of ``main``, each distinct one once."""

from __future__ import annotations

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.lift_constants import lift_constants
from tests.passes.module_summary import normal, results

WEIGHT, BIAS = normal(3, 4), normal(4, seed=1)


@I.ir_module
class Dense:
    @R.function
    def main(x: R.Tensor(("n", 3), "float32")):
        with R.dataflow():
            a = R.matmul(x, R.const(WEIGHT))
            b = R.add(a, R.const(BIAS))
            c = R.add(b, R.const(BIAS))
            r = (c,)
            R.output(r)
        return r


def test_each_constant_becomes_a_parameter_behind_the_inputs() -> None:
    @I.ir_module
    class Lifted:
        @R.function
        def main(
            x: R.Tensor(("n", 3), "float32"),
            weight_0: R.Tensor((3, 4), "float32"),
            weight_1: R.Tensor((4,), "float32"),
        ):
            R.func_attr({"relaxc.inputs": 1})
            with R.dataflow():
                a = R.matmul(x, weight_0)
                b = R.add(a, weight_1)
                c = R.add(b, weight_1)
                r = (c,)
                R.output(r)
            return r

    tvm.ir.assert_structural_equal(lift_constants(Dense).module, Lifted)


def test_weights_come_in_the_order_of_their_parameters() -> None:
    lifted = lift_constants(Dense)
    for actual, expected in zip(lifted.weights, (WEIGHT, BIAS), strict=True):
        np.testing.assert_array_equal(actual, expected)
    x = normal(2, 3, seed=2)
    np.testing.assert_array_equal(results(lifted.module, x, *lifted.weights)[0], results(Dense, x)[0])


def test_constants_that_differ_in_type_or_shape_alone_are_distinct() -> None:
    zeros, column, integers = (np.zeros(*spec) for spec in ((4, "f4"), ((4, 1), "f4"), (4, "i4")))

    @I.ir_module
    class Zeros:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                a = R.add(x, R.const(zeros))
                b = R.add(a, R.const(column))
                r = (b, R.const(integers))
                R.output(r)
            return r

    assert len(lift_constants(Zeros).weights) == 3


def test_a_module_without_constants_stays() -> None:
    @I.ir_module
    class Bare:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                a = R.nn.relu(x)
                r = (a,)
                R.output(r)
            return r

    lifted = lift_constants(Bare)
    tvm.ir.assert_structural_equal(lifted.module, Bare)
    assert lifted.weights == ()
