"""Operators that make tensors out of little: constants, fills, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..constant_tensors import constant_tensor
from ..extents import Extent, as_expression
from ..node import Node
from ..precision import is_float
from ..registry import converts
from ..shape_numbers import whole_number
from ..tabulate import tabulate
from ..values import Array, SymbolicArray, dtype_name

_SCALARS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@converts("Constant")
def constant(node: Node) -> Array:
    if node.has_attribute("value"):
        return constant_tensor(node.attribute("value"))
    for name, dtype in _SCALARS.items():
        if node.has_attribute(name):
            return np.asarray(node.attribute(name), dtype=dtype)
    raise InvalidModelError(
        "only tensors and numbers are supported as constants, not strings or sparse tensors"
    )


@converts("ConstantOfShape")
def constant_of_shape(node: Node) -> Expr:
    proto = node.attribute("value")
    fill = np.zeros(1, np.float32) if proto is None else constant_tensor(proto)
    shape = relax.ShapeExpr([as_expression(extent) for extent in node.extent_list(0)])
    return relax.op.full(shape, node.builder.constant(fill.reshape(())), str(fill.dtype))


@converts("Range")
def value_range(node: Node) -> Expr:
    dtype = node.dtype(0)
    if not all(node.is_shape_like(index) for index in range(3)):
        return _range_of_data(node, dtype)
    if all(isinstance(node.value(index), np.ndarray) for index in range(3)):
        bounds = [node.constant(index).item() for index in range(3)]
        return node.builder.constant(np.arange(*bounds, dtype=np.dtype(dtype)))
    start, limit, delta = (_whole(node, index) for index in range(3))
    if not isinstance(delta, int) or delta == 0:
        raise InvalidModelError("the step must be a known integer other than zero")
    distance = node.extents.simplify(limit - start if delta > 0 else start - limit)
    count = node.extents.maximum(node.extents.ceil_divide(distance, abs(delta)), 0)

    def compute() -> te.Tensor:
        first = as_expression(start)
        return tabulate((count,), lambda i: (first + i * delta).astype(dtype), name="range")

    return node.te(compute, name="range")


def _range_of_data(node: Node, dtype: str) -> Expr:
    """Bounds that are data decide only the extent: a kernel counts."""
    wide = "float64" if is_float(dtype) else "int64"
    bounds = [node.builder.reshape(node.builder.cast(node.tensor(i), wide), ()) for i in range(3)]

    def measure(start: te.Tensor, limit: te.Tensor, delta: te.Tensor) -> te.Tensor:
        distance = limit() - start()
        if is_float(dtype):
            steps = tirx.ceil(distance / delta()).astype("int64")
        else:
            steps = -tirx.floordiv(-distance, delta())
        return tabulate((1,), lambda _: tirx.max(steps, tirx.IntImm("int64", 0)), name="range_length")

    count = node.builder.read_extents(node.te(measure, *bounds, name="range_length"), node.outputs[0])

    def compute(start: te.Tensor, delta: te.Tensor) -> te.Tensor:
        return tabulate(count, lambda i: (start() + i.astype(wide) * delta()).astype(dtype), name="range")

    return node.te(compute, bounds[0], bounds[2], name="range")


def _whole(node: Node, index: int) -> Extent:
    """A bound of a range as an extent; floating-point ones must be whole numbers."""
    value = node.value(index)
    element = (
        value.elements.reshape(-1)[0] if isinstance(value, SymbolicArray) else node.constant(index).item()
    )
    whole = whole_number(node.extents, element)
    if whole is None:
        raise node.static_required(index)
    return whole


@converts("EyeLike")
def eye_like(node: Node) -> Expr:
    shape = node.shape(0)
    dtype = dtype_name(node.integer("dtype")) if node.has_attribute("dtype") else node.dtype(0)
    offset = node.integer("k", 0)

    def compute() -> te.Tensor:
        def element(i: Any, j: Any) -> Expr:
            return tirx.Select(j - i == offset, tirx.const(1, dtype), tirx.const(0, dtype))

        return tabulate(shape, element, name="eye")

    return node.te(compute, name="eye")
