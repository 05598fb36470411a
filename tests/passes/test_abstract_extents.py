"""Kernels of dynamic models get extents of their own, and equal kernels become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
from tvm import relax, te, tirx

from relaxc.passes.abstract_extents import abstract_extents
from tests.passes.module_summary import assert_same_results, normal, operators

HEIGHT = tirx.Var("height", "int64")
HALF = (HEIGHT - 1) // 2 + 1
QUARTER = (HEIGHT - 1) // 4 + 1

Kernel = Callable[[te.Tensor], te.Tensor]


def relu(x: te.Tensor) -> te.Tensor:
    return te.compute(x.shape, lambda *i: tirx.max(x(*i), tirx.const(0, "float32")), name="relu")


def pad(x: te.Tensor) -> te.Tensor:
    rows, columns = x.shape
    return te.compute(
        (rows, columns + 3),
        lambda i, j: tirx.if_then_else(j < columns, x[i, j], tirx.const(1, "float32")),
        name="pad",
    )


def shift_by_height(x: te.Tensor) -> te.Tensor:
    height = x.shape[1].a.a.a  # of (height - 1) // 2 + 1
    return te.compute(x.shape, lambda *i: x(*i) + tirx.Cast("float32", height), name="shift")


def module_of(kernel: Kernel, extents: Sequence[tirx.Expr]) -> tvm.IRModule:
    """``main`` takes a [height] vector, which binds the variable, and calls the kernel on [2, extent]s."""
    builder = relax.BlockBuilder()
    binder = relax.Var("binder", relax.TensorType([HEIGHT], "float32"))
    inputs = [
        relax.Var(f"x{i}", relax.TensorType([2, extent], "float32")) for i, extent in enumerate(extents)
    ]
    with builder.function("main", [binder, *inputs]):
        with builder.dataflow():
            values = [builder.emit_te(kernel, x) for x in inputs]
            result = builder.emit_output(relax.Tuple(values))
        builder.emit_func_output(result)
    return builder.get()


def kernels(module: tvm.IRModule) -> list[tirx.PrimFunc]:
    return [f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc)]


def test_kernels_at_several_depths_become_one() -> None:
    module = module_of(relu, [HEIGHT, HALF, QUARTER, HEIGHT + 5])
    after = abstract_extents(module)
    assert [len(kernels(module)), len(kernels(after))] == [4, 1]
    assert len(set(operators(after))) == 1
    assert_same_results(after, module, normal(9), normal(2, 9), normal(2, 5), normal(2, 3), normal(2, 14))


def test_a_kernel_no_longer_takes_the_dimension() -> None:
    module = module_of(relu, [HALF])
    (before,), (after,) = kernels(module), kernels(abstract_extents(module))
    assert len(before.params) == 3  # input, height, result
    assert len(after.params) == 2
    assert all(isinstance(param.ty.shape[1], tirx.Var) for param in after.params)


def test_constants_added_to_an_extent_follow_it() -> None:
    module = module_of(pad, [HALF, QUARTER])
    after = abstract_extents(module)
    assert len(kernels(after)) == 1
    assert_same_results(after, module, normal(8), normal(2, 4), normal(2, 2))


def test_an_extent_beside_the_variable_that_it_is_made_of_stays() -> None:
    module = module_of(pad, [HEIGHT])
    tvm.ir.assert_structural_equal(abstract_extents(module), module)


def test_a_kernel_that_computes_with_the_dimension_stays() -> None:
    module = module_of(shift_by_height, [HALF])
    after = abstract_extents(module)
    tvm.ir.assert_structural_equal(after, module)
    assert_same_results(after, module, normal(7), normal(2, 4))


def test_equal_static_kernels_become_one() -> None:
    module = module_of(relu, [tirx.const(4, "int64"), tirx.const(4, "int64"), tirx.const(5, "int64")])
    assert len(kernels(abstract_extents(module))) == 2
