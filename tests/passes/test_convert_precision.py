"""Values between kernels become bfloat16 by their operator's rule; sums, inputs and outputs stay float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.convert_precision import convert_precision
from tests.passes.module_summary import bindings, normal

WEIGHT = normal(6, 10)
ROUNDED = relax.const(WEIGHT.astype(ml_dtypes.bfloat16), "bfloat16")
FILTERS = normal(8, 6, 3, 3)
ROUNDED_FILTERS = relax.const(FILTERS.astype(ml_dtypes.bfloat16), "bfloat16")
ODD_FILTERS = normal(8, 5, 3, 3)


def assert_converts(before: tvm.IRModule, after: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(convert_precision(before, "bfloat16"), after)


def test_products_are_summed_in_float32_and_biases_stay_exact() -> None:
    bias = relax.const(normal(10))

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor(("rows", 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                z = R.add(y, bias)
                r = (z,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor(("rows", 6), "float32")):
            with R.dataflow():
                narrow = R.astype(x, dtype="bfloat16")
                product = R.matmul(narrow, ROUNDED, out_dtype="float32")
                y = R.astype(product, dtype="bfloat16")
                wide = R.astype(y, dtype="float32")
                total = R.add(wide, bias)
                z = R.astype(total, dtype="bfloat16")
                out = R.astype(z, dtype="float32")
                r = (out,)
                R.output(r)
            return r

    assert_converts(Before, After)


def test_softmax_and_data_movement_keep_narrow_values_narrow() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                s = R.nn.softmax(y, axis=-1)
                t = R.permute_dims(s, [1, 0])
                r = (t,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                narrow = R.astype(x, dtype="bfloat16")
                product = R.matmul(narrow, ROUNDED, out_dtype="float32")
                y = R.astype(product, dtype="bfloat16")
                s = R.nn.softmax(y, axis=-1)
                t = R.permute_dims(s, [1, 0])
                out = R.astype(t, dtype="float32")
                r = (out,)
                R.output(r)
            return r

    assert_converts(Before, After)


def test_reductions_and_what_meets_their_results_stay_in_float32() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                m = R.mean(y, axis=[-1], keepdims=True)
                d = R.subtract(y, m)
                r = (d,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                narrow = R.astype(x, dtype="bfloat16")
                product = R.matmul(narrow, ROUNDED, out_dtype="float32")
                y = R.astype(product, dtype="bfloat16")
                first = R.astype(y, dtype="float32")
                m = R.mean(first, axis=[-1], keepdims=True)
                second = R.astype(y, dtype="float32")
                d = R.subtract(second, m)
                r = (d,)
                R.output(r)
            return r

    assert_converts(Before, After)


def test_convolutions_multiply_pairs_of_channels() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 6, 9, 9), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, R.const(FILTERS), padding=1)
                z = R.nn.relu(y)
                r = (z,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 6, 9, 9), "float32")):
            with R.dataflow():
                narrow = R.astype(x, dtype="bfloat16")
                product = R.nn.conv2d(narrow, ROUNDED_FILTERS, padding=1, out_dtype="float32")
                y = R.astype(product, dtype="bfloat16")
                wide = R.astype(y, dtype="float32")
                positive = R.nn.relu(wide)
                z = R.astype(positive, dtype="bfloat16")
                out = R.astype(z, dtype="float32")
                r = (out,)
                R.output(r)
            return r

    assert_converts(Before, After)


def test_an_odd_number_of_channels_is_multiplied_in_float32() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 5, 9, 9), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, R.const(ODD_FILTERS), padding=1)
                r = (y,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((1, 5, 9, 9), "float32")):
            with R.dataflow():
                product = R.nn.conv2d(x, R.const(ODD_FILTERS), padding=1)
                y = R.astype(product, dtype="bfloat16")
                out = R.astype(y, dtype="float32")
                r = (out,)
                R.output(r)
            return r

    assert_converts(Before, After)


@pytest.mark.parametrize(("dilation", "narrow"), [((1, 1), True), ((2, 1), True), ((1, 2), False)])
def test_few_channels_are_multiplied_by_pairs_of_columns(dilation: tuple[int, int], narrow: bool) -> None:
    weight = FILTERS[:, :3]

    @I.ir_module
    class Picture:
        @R.function
        def main(x: R.Tensor((1, 3, 9, 9), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, R.const(weight), dilation=dilation)
                r = (y,)
                R.output(r)
            return r

    found: list[str] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, tvm.ir.Call) and expr.op.name == "relax.nn.conv2d":
            found.append(str(expr.args[0].ty.dtype.dtype))

    relax.analysis.post_order_visit(convert_precision(Picture, "bfloat16")["main"], visit)
    assert found == ["bfloat16" if narrow else "float32"]


def test_what_no_narrow_value_reaches_stays_as_it_is() -> None:
    @I.ir_module
    class Elementwise:
        @R.function
        def main(x: R.Tensor((4, 6), "float32"), i: R.Tensor((4, 6), "int64")):
            with R.dataflow():
                y = R.exp(x)
                j = R.add(i, i)
                r = (y, j)
                R.output(r)
            return r

    assert_converts(Elementwise, Elementwise)


def test_casts_that_are_there_already_are_not_repeated() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "bfloat16")):
            with R.dataflow():
                wide = R.astype(x, "float32")
                y = R.exp(wide)
                narrow = R.astype(y, "bfloat16")
                r = (narrow,)
                R.output(r)
            return r

    after = relax.transform.CanonicalizeBindings()(convert_precision(Before, "bfloat16"))
    names = [call.op.name for call in bindings(after) if isinstance(call, tvm.ir.Call)]
    assert names == ["relax.astype", "relax.exp", "relax.astype"]


def test_rows_of_an_embedding_start_narrow() -> None:
    table = normal(7, 6)
    after = convert_precision(_embedding(table), "bfloat16")
    taken = bindings(after)[0]
    assert taken.op.name == "relax.take"
    np.testing.assert_array_equal(taken.args[0].value.numpy(), table.astype(ml_dtypes.bfloat16))


def _embedding(table: np.ndarray) -> tvm.IRModule:
    @I.ir_module
    class Embedding:
        @R.function
        def main(i: R.Tensor(("n",), "int64")):
            with R.dataflow():
                y = R.take(R.const(table), i, axis=0)
                z = R.matmul(y, R.const(WEIGHT))
                r = (z,)
                R.output(r)
            return r

    return Embedding
