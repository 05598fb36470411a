"""Arithmetic and traffic of kernels, counted by hand."""

from __future__ import annotations

import tvm
from tvm import te, tirx

from relaxc.passes.compute.matmul import matmul_packed
from relaxc.passes.compute.matmul_pairs import matmul_packed_pairs
from relaxc.passes.compute.rows import softmax_columns, softmax_rows
from relaxc.targets.cpu.kernel_costs import buffers, bytes_moved, flops, static_extents


def matmul(M: tirx.Expr | int, dtype: str = "float32") -> tirx.PrimFunc:
    a, b = te.placeholder((M, 30), dtype, "a"), te.placeholder((30, 40), dtype, "b")
    k = te.reduce_axis((0, 30), "k")
    return te.create_prim_func(
        [a, b, te.compute((M, 40), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), "c")]
    )


def test_a_product_multiplies_and_adds_for_each_step() -> None:
    assert flops(matmul(20)) == 2 * 20 * 30 * 40


def test_an_elementwise_kernel_does_one_operation_an_element() -> None:
    x = te.placeholder((7, 9), "float32", "x")
    assert flops(te.create_prim_func([x, te.compute(x.shape, lambda *i: x(*i) + 1.0, "y")])) == 63


def test_every_buffer_moves_once() -> None:
    assert bytes_moved(matmul(20)) == 4 * (20 * 30 + 30 * 40 + 20 * 40)
    assert bytes_moved(matmul(20, "float64")) == 8 * (20 * 30 + 30 * 40 + 20 * 40)


def test_symbolic_extents_leave_costs_open() -> None:
    kernel = matmul(tirx.Var("m", "int64"))
    assert flops(kernel) is None
    assert bytes_moved(kernel) is None
    assert [static_extents(buffer) for buffer in buffers(kernel)] == [None, (30, 40), None]


def test_scalars_are_no_buffers() -> None:
    assert len(buffers(matmul(3))) == 3
    n = tirx.Var("n", "int64")
    x = te.placeholder((4,), "float32", "x")
    kernel = te.create_prim_func([x, n, te.compute((4,), lambda i: x[i] + tirx.Cast("float32", n), "y")])
    assert len(kernel.params) == 3
    assert len(buffers(kernel)) == 2
    assert isinstance(kernel, tvm.tirx.PrimFunc)


def test_what_a_tile_computes_beyond_the_edge_is_not_counted() -> None:
    x, w = te.placeholder((5, 30), "float32", "x"), te.placeholder((2, 30, 16), "float32", "w")
    assert flops(te.create_prim_func([x, w, matmul_packed(x, w, 20)])) == 2 * 5 * 30 * 20


def test_a_product_of_pairs_counts_as_two_steps() -> None:
    x, w = te.placeholder((5, 30), "bfloat16", "x"), te.placeholder((2, 15, 16), "int32", "w")
    assert flops(te.create_prim_func([x, w, matmul_packed_pairs(x, w, 20)])) == 2 * 5 * 30 * 20


def test_a_softmax_takes_a_few_operations_an_element() -> None:
    x = te.placeholder((6, 80, 48), "float32", "x")
    for result in (softmax_rows(x), softmax_columns(x, 1)):
        count = flops(te.create_prim_func([x, result]))
        assert count is not None
        assert 4 < count / (6 * 80 * 48) < 16
