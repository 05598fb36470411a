"""Results that ``main`` does not allocate may be somebody else's."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relaxc.passes.pipeline import lower_kernel_calls
from relaxc.passes.shared_results import shared_results

CONSTANT = np.ones(4, np.float32)


@I.ir_module
class Mixed:
    @T.prim_func(private=True, s_tir=True)
    def step(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("step"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi] + T.float32(1)

    @R.function(private=True)
    def branch(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        return R.const(CONSTANT)

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        cls = Mixed
        a = cls.branch(x)
        b = R.call_tir(cls.step, (x,), R.Tensor((4,), "float32"))
        c = R.reshape(b, (2, 2))
        return (a, b, c, x, (b, a), (c, x))


def test_what_another_function_returns_is_shared_and_what_main_allocates_is_not() -> None:
    assert shared_results(lower_kernel_calls()(Mixed)) == (0, 4)
