"""Operators on the bits of elements, and small pieces of linear algebra."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import as_expression
from ..loops import loop, loop_kernel, when
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import NarrowTensor, Value, dtype_name, is_narrow, numpy_dtype
from .elementwise import map_elements


@converts("BitCast")
def bit_cast(node: Node) -> Value:
    """The same bits read as another type of the same width."""
    source, target = node.dtype(0), dtype_name(node.integer("to"))
    value = node.value(0)
    if source == target:
        return value
    if is_narrow(source) or is_narrow(target):
        return _bit_cast_bytes(node, value, target)
    tensor = node.tensor(0)
    if source == "bool" or target == "bool":
        return node.builder.cast(tensor, target)
    if numpy_dtype(source).itemsize != numpy_dtype(target).itemsize:
        raise InvalidModelError(f"{source} and {target} differ in width")
    return map_elements(node, lambda x: tirx.reinterpret(target, x), tensor, name="bit_cast")


def _bit_cast_bytes(node: Node, value: Value, target: str) -> Value:
    tensor = value.storage if isinstance(value, NarrowTensor) else node.tensor(0)
    held = node.builder.cast(tensor, "uint8")
    return NarrowTensor(held, target) if is_narrow(target) else node.builder.cast(held, target)


@converts("Det")
def determinant(node: Node) -> Expr:
    """By elimination with partial pivoting."""
    shape = node.shape(0)
    size, lines = shape[-1], node.extents.product(shape[:-2])
    dtype = node.dtype(0)
    data = node.builder.reshape(node.tensor(0), [lines, size, size])

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (x,), (result, work, best) = inputs, outputs
        with loop(lines) as line:
            with loop(size) as i, loop(size) as j:
                work[i, j] = x[line, i, j].astype("float64")
            result[line] = tirx.const(1, dtype)
            with loop(size) as pivot:
                _eliminate(work, best, pivot, as_expression(size))
                sign = tirx.Select(best[0] == pivot, tirx.const(1, "float64"), tirx.const(-1, "float64"))
                result[line] = (result[line].astype("float64") * sign * work[pivot, pivot]).astype(dtype)

    outputs = [((lines,), dtype), ((size, size), "float64"), ((1,), "int64")]
    found = loop_kernel(node.builder, [data], outputs, statements, "determinant")[0]
    return node.builder.reshape(found, shape[:-2])


def _eliminate(work: Any, best: Any, pivot: Any, size: Expr) -> None:
    """Swaps the row with the largest entry up, and clears the column below it."""
    best[0] = pivot
    with loop(size - pivot) as below:
        row = pivot + below
        with when(tirx.abs(work[row, pivot]) > tirx.abs(work[best[0], pivot])):
            best[0] = row
    with when(best[0] != pivot), loop(size) as column:
        # Without a temporary: a, b = a + b, a; then a - b.
        work[pivot, column] = work[pivot, column] + work[best[0], column]
        work[best[0], column] = work[pivot, column] - work[best[0], column]
        work[pivot, column] = work[pivot, column] - work[best[0], column]
    with when(work[pivot, pivot] != tirx.const(0, "float64")), loop(size - pivot - 1) as below:
        row = pivot + 1 + below
        with loop(size - pivot - 1) as right:
            column = pivot + 1 + right
            factor = work[row, pivot] / work[pivot, pivot]
            work[row, column] = work[row, column] - factor * work[pivot, column]


@converts("TensorScatter")
def tensor_scatter(node: Node) -> Expr:
    """A cache with entries replaced from each batch's own position on, around its end if circular."""
    shape, updates = node.shape(0), node.shape(1)
    axis = node.axis("axis", -2, len(shape))
    circular = node.text("mode", "linear") == "circular"
    extent, count = as_expression(shape[axis]), as_expression(updates[axis])

    def compute(past: Any, update: Any, *starts: Any) -> Any:
        def element(*i: Any) -> Expr:
            start = starts[0](i[0]).astype("int64") if starts else tirx.IntImm("int64", 0)
            place = i[axis] - start
            place = tirx.floormod(place, extent) if circular else place
            inside = tirx.all(place >= 0, place < count)
            return tirx.if_then_else(inside, update(*i[:axis], place, *i[axis + 1 :]), past(*i))

        return tabulate(shape, element, name="tensor_scatter")

    starts = [node.tensor(2)] if node.has(2) else []
    return node.te(compute, node.tensor(0), node.tensor(1), *starts, name="tensor_scatter")
