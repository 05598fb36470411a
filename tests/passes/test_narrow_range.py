"""What may leave the range of float16 stays in float32; bfloat16 has the range of float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.convert_precision import convert_precision
from relaxc.passes.narrow_range import NarrowRange

WEIGHT = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
BIAS = np.arange(0, 600, 100, dtype=np.float32)
ROUNDED = relax.const(WEIGHT.astype(np.float16))


def assert_converts(before: tvm.IRModule, after: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(convert_precision(before, "float16"), after)


def narrow() -> relax.Var:
    return relax.Var("x", relax.TensorType((4, 6), "float16"))


def type_of_what_is_reshaped(mod: tvm.IRModule) -> str:
    """In ``mod`` with float16."""
    found: list[str] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, tvm.ir.Call) and getattr(expr.op, "name", "") == "relax.reshape":
            found.append(str(expr.args[0].ty.dtype.dtype))

    relax.analysis.post_order_visit(convert_precision(mod, "float16")["main"], visit)
    (dtype,) = found
    return dtype


def test_sums_of_residuals_stay_wide_and_are_narrowed_once_for_all_products() -> None:
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(WEIGHT))
                total = R.add(y, x)
                a = R.matmul(total, R.const(WEIGHT))
                b = R.matmul(total, R.const(WEIGHT))
                r = (a, b)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                narrow = R.astype(x, dtype="float16")
                product = R.matmul(narrow, ROUNDED, out_dtype="float32")
                y = R.astype(product, dtype="float16")
                wide = R.astype(y, dtype="float32")
                total = R.add(wide, x)
                both = R.astype(total, dtype="float16")
                product_a = R.matmul(both, ROUNDED, out_dtype="float32")
                a = R.astype(product_a, dtype="float16")
                product_b = R.matmul(both, ROUNDED, out_dtype="float32")
                b = R.astype(product_b, dtype="float16")
                out_a = R.astype(a, dtype="float32")
                out_b = R.astype(b, dtype="float32")
                r = (out_a, out_b)
                R.output(r)
            return r

    assert_converts(Before, After)


def test_a_product_with_weights_out_of_range_stays_wide() -> None:
    large = WEIGHT.copy()
    large[0, 0] = 7e4

    @I.ir_module
    class Large:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                y = R.matmul(x, R.const(large))
                r = (y,)
                R.output(r)
            return r

    assert_converts(Large, Large)


def test_what_is_normalised_becomes_narrow() -> None:
    gamma = relax.const(np.ones(6, np.float32))

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                y = R.nn.layer_norm(x, gamma, gamma, axes=[-1])
                r = (y,)
                R.output(r)
            return r

    @I.ir_module
    class After:
        @R.function
        def main(x: R.Tensor((4, 6), "float32")):
            with R.dataflow():
                wide = R.nn.layer_norm(x, gamma, gamma, axes=[-1])
                y = R.astype(wide, dtype="float16")
                out = R.astype(y, dtype="float32")
                r = (out,)
                R.output(r)
            return r

    assert_converts(Before, After)


@I.ir_module
class Gated:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            y = R.matmul(x, R.const(WEIGHT))
            gate = R.sigmoid(y)
            z = R.multiply(y, gate)
            moved = R.reshape(z, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@I.ir_module
class Squared:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            y = R.matmul(x, R.const(WEIGHT))
            z = R.multiply(y, y)
            moved = R.reshape(z, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@I.ir_module
class Masked:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            y = R.matmul(x, R.const(WEIGHT))
            z = R.add(y, R.const(-1e9))
            moved = R.reshape(z, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@I.ir_module
class Biased:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            y = R.matmul(x, R.const(WEIGHT))
            z = R.add(y, R.const(BIAS))
            moved = R.reshape(z, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@pytest.mark.parametrize(
    ("mod", "dtype"), [(Gated, "float16"), (Biased, "float16"), (Squared, "float32"), (Masked, "float32")]
)
def test_only_what_cannot_grow_much_is_stored_narrow(mod: tvm.IRModule, dtype: str) -> None:
    assert type_of_what_is_reshaped(mod) == dtype


@pytest.mark.parametrize("operator", [relax.op.exp, relax.op.square])
def test_functions_that_grow_fast_stay_wide(operator: Callable[[relax.Expr], relax.Expr]) -> None:
    call = operator(narrow())
    assert NarrowRange("float16").may_leave(call)
    assert not NarrowRange("bfloat16").may_leave(call)


def test_infinities_fit() -> None:
    assert NarrowRange("float16").holds(np.array([-np.inf, 65504.0, np.nan]))
    assert not NarrowRange("float16").holds(np.array([65536.0]))
    assert NarrowRange("bfloat16").holds(np.array([1e38]))


def number(value: float) -> relax.Expr:
    return relax.const(value, "float32")


@pytest.mark.parametrize(
    ("call", "leaves"),
    [
        (relax.op.maximum(narrow(), number(1e5)), True),
        (relax.op.minimum(narrow(), number(-1e5)), True),
        (relax.op.maximum(narrow(), number(0.5)), False),
        (relax.op.maximum(narrow(), narrow()), False),
        (relax.op.clip(narrow(), 1e5, 2e5), True),
        (relax.op.clip(narrow(), 0, 1e6), False),
        (relax.op.clip(narrow(), -np.inf, np.inf), False),
        (relax.op.nn.log_softmax(narrow()), True),
        (relax.op.nn.softmax(narrow()), False),
        (relax.op.nn.layer_norm(narrow(), relax.const(np.full(6, 1e5, np.float32)), number(0), [-1]), True),
    ],
)
def test_results_out_of_range_of_comparisons_and_normalisation_stay_wide(
    call: tvm.ir.Call, leaves: bool
) -> None:
    assert NarrowRange("float16").may_leave(call) == leaves


@I.ir_module
class DividedByZero:
    @R.function
    def main(x: R.Tensor((4, 6), "float32")):
        with R.dataflow():
            y = R.matmul(x, R.const(WEIGHT))
            z = R.divide(y, R.const(0.0))
            moved = R.reshape(z, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@I.ir_module
class OfIntegers:
    @R.function
    def main(x: R.Tensor((4, 6), "int64")):
        with R.dataflow():
            y = R.divide(x, R.const(2, "int64"))
            moved = R.reshape(y, (6, 4))
            r = (moved,)
            R.output(r)
        return r


@pytest.mark.parametrize(("mod", "dtype"), [(DividedByZero, "float32"), (OfIntegers, "int64")])
def test_divisors_of_any_kind_are_taken(mod: tvm.IRModule, dtype: str) -> None:
    assert type_of_what_is_reshaped(mod) == dtype
