"""Operators become kernels: by definitions of our own, or by TVM's."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.legalize import legalize
from tests.passes.module_summary import normal, operators, results


def unary(operator: relax.Expr, *shape: int | str, dtype: str = "float32") -> tvm.IRModule:
    builder = relax.BlockBuilder()
    extents = [tvm.tirx.Var(e, "int64") if isinstance(e, str) else e for e in shape]
    x = relax.Var("x", relax.TensorType(extents, dtype))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple([builder.emit(operator(x))]))
        builder.emit_func_output(result)
    return builder.get()


def test_every_operator_becomes_a_kernel() -> None:
    @I.ir_module
    class Mixed:
        @R.function
        def main(x: R.Tensor(("n", 6), "float32"), y: R.Tensor((1, 6), "float32")):
            with R.dataflow():
                a = R.add(x, y)
                b = R.nn.softmax(a)
                c = R.sum(b, axis=[0])
                d = R.permute_dims(b)
                r = (c, d)
                R.output(r)
            return r

    assert operators(legalize(Mixed)) == ["add", "softmax_rows", "sum", "transpose"]


def test_a_reshape_stays_a_view() -> None:
    module = unary(lambda x: relax.op.reshape(x, (6, 2)), 3, 4)
    assert operators(legalize(module)) == ["reshape"]
    assert [v.name_hint for v in legalize(module).get_global_vars()] == ["main"]


@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 7), ("rows", 16), ("rows", 35)])
def test_rows_are_reduced_by_vectors_of_partial_results(shape: tuple[int | str, ...]) -> None:
    after = legalize(unary(lambda x: relax.op.sum(x, axis=[-1]), *shape))
    assert operators(after) == ["sum"]
    concrete = [5 if isinstance(extent, str) else extent for extent in shape]
    x = normal(*concrete)
    np.testing.assert_allclose(results(after, x)[0], x.sum(-1, dtype=np.float64), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 7), ("rows", 35), (4, "columns")])
def test_variances_are_summed_by_vectors_of_partial_results(
    shape: tuple[int | str, ...], keepdims: bool
) -> None:
    after = legalize(unary(lambda x: relax.op.variance(x, axis=[-1], keepdims=keepdims), *shape))
    assert "row_squares_partial" in str(after) or shape[-1] == 7
    x = normal(*(35 if isinstance(extent, str) else extent for extent in shape)) + np.float32(100)
    expected = x.astype(np.float64).var(-1, keepdims=keepdims)
    np.testing.assert_allclose(results(after, x)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 4, 40), (1, 2)), (("n", 5, 8), (2, 1)), ((40,), (0,)), ((3, 40), (0, 1))]
)
def test_several_last_axes_are_reduced_as_one(
    shape: tuple[int | str, ...], axes: tuple[int, ...], keepdims: bool
) -> None:
    after = legalize(unary(lambda x: relax.op.sum(x, axis=list(axes), keepdims=keepdims), *shape))
    assert "row_reduce_partial" in str(after)
    x = normal(*(6 if isinstance(extent, str) else extent for extent in shape))
    expected = x.astype(np.float64).sum(axes, keepdims=keepdims)
    np.testing.assert_allclose(results(after, x)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "shape", "dtype"),
    [
        (lambda x: relax.op.sum(x, axis=[0]), (3, 40), "float32"),
        (lambda x: relax.op.sum(x, axis=[1]), (3, 40), "int64"),
        (lambda x: relax.op.nn.softmax(x, axis=0), (3, 40), "float64"),
        (lambda x: relax.op.nn.log_softmax(x, axis=1), (3, 40, 2), "float32"),
        (lambda x: relax.op.mean(x), (3, "n"), "float32"),
        (lambda x: relax.op.sum(x, axis=[1, 2]), (40, 3, 3), "float32"),
        (lambda x: relax.op.max(x, axis=[0]), (3, 40), "int32"),
    ],
)
def test_the_rest_is_tvms_definition(operator: relax.Expr, shape: tuple[int, ...], dtype: str) -> None:
    module = unary(operator, *shape, dtype=dtype)
    tvm.ir.assert_structural_equal(legalize(module), relax.transform.LegalizeOps()(module))


def test_softmax_over_an_outer_axis_works_on_columns_side_by_side() -> None:
    after = legalize(unary(lambda x: relax.op.nn.softmax(x, axis=1), 2, 3, 7))
    assert operators(after) == ["softmax_columns"]
    x = normal(2, 3, 7)
    power = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(results(after, x)[0], power / power.sum(1, keepdims=True), rtol=1e-5)


def test_layer_normalisation_over_two_axes_is_tvms_definition() -> None:
    gamma, beta = relax.const(normal(3, 4)), relax.const(normal(3, 4))
    module = unary(lambda x: relax.op.nn.layer_norm(x, gamma, beta, axes=[-2, -1]), 2, 3, 4)
    tvm.ir.assert_structural_equal(legalize(module), relax.transform.LegalizeOps()(module))


def test_clipping_keeps_nan_and_its_upper_bound_wins() -> None:
    x = np.array([np.nan, -5, 0.5, 5, np.inf], np.float32)
    (clipped,) = results(legalize(unary(lambda d: relax.op.clip(d, -1, 1), 5)), x)
    np.testing.assert_array_equal(clipped, np.array([np.nan, -1, 0.5, 1, 1], np.float32))
    (crossed,) = results(legalize(unary(lambda d: relax.op.clip(d, 2, 1), 5)), x)
    np.testing.assert_array_equal(crossed[1:], np.ones(4, np.float32))


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_elements_are_repeated(axis: int | None) -> None:
    x = normal(3, 4)
    (repeated,) = results(legalize(unary(lambda d: relax.op.repeat(d, 3, axis), 3, 4)), x)
    np.testing.assert_array_equal(repeated, np.repeat(x, 3, axis))
