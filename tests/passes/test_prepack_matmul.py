"""Constant right-hand sides of matrix products are packed at compile time, others by the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.compute import layout
from relaxc.passes.constants import constant_value
from relaxc.passes.prepack_matmul import prepack_matmul
from tests.passes.module_summary import assert_same_results, bindings, normal, operators

BLOCK = 4
WEIGHT = normal(6, 10)


def prepacked(module: tvm.IRModule, *inputs: np.ndarray) -> list[str]:
    """What the module calls after the pass, which must not have changed its results."""
    after = prepack_matmul(module, BLOCK)
    assert_same_results(after, module, *inputs)
    return operators(after)


def test_constants_are_packed_into_panels() -> None:
    @I.ir_module
    class Dense:
        @R.function
        def main(x: R.Tensor(("rows", 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                r = (y,)
                R.output(r)
            return r

    assert prepacked(Dense, normal(5, 6)) == ["matmul_packed"]
    call = bindings(prepack_matmul(Dense, BLOCK))[0]
    packed = constant_value(call.args[1].fields[1])
    assert packed is not None
    assert packed.shape == (3, 6, BLOCK)  # ten columns, in panels of four
    for column in range(10):
        np.testing.assert_array_equal(packed[column // BLOCK, :, column % BLOCK], WEIGHT[:, column])


@pytest.mark.parametrize(
    ("panels", "block", "packed_panels"), [(17, 8, 18), (16, 8, 16), (15, 8, 15), (5, 8, 5), (17, 16, 17)]
)
def test_narrow_panels_come_in_numbers_that_tiles_divide(panels: int, block: int, packed_panels: int) -> None:
    weight = normal(6, panels * block)

    @I.ir_module
    class Dense:
        @R.function
        def main(x: R.Tensor(("rows", 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(weight))
                r = (y,)
                R.output(r)
            return r

    after = prepack_matmul(Dense, block)
    packed = constant_value(bindings(after)[0].args[1].fields[1])
    assert packed is not None
    assert packed.shape == (packed_panels, 6, block)
    assert not packed[panels:].any()


def test_batch_axes_are_kept() -> None:
    @I.ir_module
    class Batched:
        @R.function
        def main(x: R.Tensor(("n", "heads", "rows", 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                r = (y,)
                R.output(r)
            return r

    assert prepacked(Batched, normal(2, 3, 5, 6)) == ["matmul_packed"]


def test_many_matrices_of_few_rows_become_one_matrix() -> None:
    @I.ir_module
    class FewRows:
        @R.function
        def main(x: R.Tensor((20, 2, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                r = (y,)
                R.output(r)
            return r

    assert prepacked(FewRows, normal(20, 2, 6)) == ["reshape", "matmul_packed", "reshape"]


@pytest.mark.parametrize("shape", [(2, 2, 6), (2, 30, 6)])
def test_matrices_stay_apart_where_merging_gains_nothing(shape: tuple[int, ...]) -> None:
    @I.ir_module
    class Rows:
        @R.function
        def main(x: R.Tensor(shape, "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                r = (y,)
                R.output(r)
            return r

    assert prepacked(Rows, normal(*shape)) == ["matmul_packed"]


def test_the_kernel_reads_through_transposes_of_its_right_hand_side() -> None:
    @I.ir_module
    class Scores:
        @R.function
        def main(q: R.Tensor((1, 2, "t", 6), "float32"), k: R.Tensor((1, "t", 2, 6), "float32")):
            with R.dataflow():
                kt = R.permute_dims(k, axes=[0, 2, 3, 1])
                y = R.matmul(q, kt)
                r = (y,)
                R.output(r)
            return r

    assert prepacked(Scores, normal(1, 2, 5, 6), normal(1, 5, 2, 6)) == ["matmul"]


def test_products_with_vectors_stay() -> None:
    @I.ir_module
    class Vector:
        @R.function
        def main(
            x: R.Tensor((6,), "float32"), y: R.Tensor((6, 10), "float32"), z: R.Tensor((10,), "float32")
        ):
            with R.dataflow():
                a = R.matmul(x, y)
                b = R.matmul(y, z)
                c = R.matmul(x, R.const(WEIGHT))
                r = (a, b, c)
                R.output(r)
            return r

    tvm.ir.assert_structural_equal(prepack_matmul(Vector, BLOCK), Vector)


def test_other_types_stay() -> None:
    weight = WEIGHT.astype(np.float64)

    @I.ir_module
    class Double:
        @R.function
        def main(x: R.Tensor((5, 6), "float64")):
            with R.dataflow():
                y = R.matmul(x, R.const(weight, "float64"))
                r = (y,)
                R.output(r)
            return r

    tvm.ir.assert_structural_equal(prepack_matmul(Double, BLOCK), Double)


@pytest.mark.parametrize(("result", "is_packed"), [("float32", True), ("float16", False)])
def test_float16_weights_of_a_wide_result_are_packed_as_they_are(result: str, is_packed: bool) -> None:
    weight = WEIGHT.astype(np.float16)

    @I.ir_module
    class Half:
        @R.function
        def main(x: R.Tensor((5, 6), "float16")):
            with R.dataflow():
                y = R.matmul(x, R.const(weight), out_dtype=result)
                r = (y,)
                R.output(r)
            return r

    after = prepack_matmul(Half, BLOCK)
    if is_packed:
        packed = bindings(after)[0].args[1].fields[1].value.numpy()
        np.testing.assert_array_equal(packed, layout.pack_matmul_weight(weight, BLOCK))
        assert packed.dtype == np.float16
    else:
        tvm.ir.assert_structural_equal(after, Half)


def test_a_stack_of_constant_matrices_is_packed_by_the_kernel() -> None:
    stack = normal(3, 6, 10)

    @I.ir_module
    class Stack:
        @R.function
        def main(x: R.Tensor((3, 5, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(stack))
                r = (y,)
                R.output(r)
            return r

    prepacked(Stack, normal(3, 5, 6))
