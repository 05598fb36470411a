"""Shape functions store in the order of their slots, whatever order TVM found."""

from __future__ import annotations

import tvm
from tvm.script import ir as I
from tvm.script import tirx as T

from relaxc.passes.order_shape_functions import order_shape_functions


def test_stores_are_put_in_order() -> None:
    @I.ir_module
    class Found:
        @T.prim_func(s_tir=True)
        def shape_func(H: T.Buffer((4,), "int64")):
            T.func_attr({"tirx.is_host_func": True})
            H[3] = H[0] * T.int64(8)
            H[1] = H[0] - T.int64(1)
            H[2] = H[0] + T.int64(5)

    @I.ir_module
    class Ordered:
        @T.prim_func(s_tir=True)
        def shape_func(H: T.Buffer((4,), "int64")):
            T.func_attr({"tirx.is_host_func": True})
            H[1] = H[0] - T.int64(1)
            H[2] = H[0] + T.int64(5)
            H[3] = H[0] * T.int64(8)

    tvm.ir.assert_structural_equal(order_shape_functions()(Found), Ordered)


def test_one_store_and_other_functions_stay() -> None:
    @I.ir_module
    class Others:
        @T.prim_func(s_tir=True)
        def shape_func(H: T.Buffer((4,), "int64")):
            T.func_attr({"tirx.is_host_func": True})
            H[3] = H[0] * T.int64(8)

        @T.prim_func(s_tir=True)
        def kernel(H: T.Buffer((4,), "int64")):
            H[1] = H[0]
            H[0] = T.int64(8)

    tvm.ir.assert_structural_equal(order_shape_functions()(Others), Others)
