"""Scalar parameters come in the order in which a kernel mentions them, buffers stay in place."""

from __future__ import annotations

import itertools

import tvm
from tvm import te, tirx

from relaxc.passes.parameter_order import parameter_order, with_parameter_order


def kernel(scalars: list[str]) -> tirx.PrimFunc:
    """Takes a buffer of [a * 2, b * 2], then ``scalars``, and returns a buffer with ``c`` added."""
    names = {name: tirx.Var(name, "int64") for name in "abc"}
    x = te.placeholder((names["a"] * 2, names["b"] * 2), "float32", "x")
    y = te.compute(x.shape, lambda i, j: x[i, j] + tirx.Cast("float32", names["c"]), name="y")
    return te.create_prim_func([x, *(names[name] for name in scalars), y])


def test_every_order_becomes_the_same() -> None:
    expected = kernel(["a", "b", "c"])
    for scalars in itertools.permutations("abc"):
        found = kernel(list(scalars))
        order = parameter_order(found)
        assert [found.params[place].name for place in order[1:-1]] == ["a", "b", "c"]
        tvm.ir.assert_structural_equal(with_parameter_order(found, order), expected)


def test_buffers_stay_in_place() -> None:
    order = parameter_order(kernel(["c", "b", "a"]))
    assert [order[0], order[-1]] == [0, 4]
