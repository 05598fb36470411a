"""Operators that make tensors out of little: constants, fills, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..constant_folding import constant_tensor
from ..extents import Extent, as_expression
from ..node import Node
from ..registry import converts
from ..shape_numbers import whole_number
from ..tabulate import tabulate
from ..values import Array, SymbolicArray, Value, dtype_name

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
    if not all(node.is_shape_like(index) for index in range(3)):
        missing = next(index for index in range(3) if not node.is_shape_like(index))
        raise node.static_required(missing)
    dtype = node.dtype(0)
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


@converts("Dropout")
def dropout(node: Node) -> list[Value]:
    """At inference the data passes unchanged, and the mask keeps everything."""
    if node.has(2) and node.op_type == "Dropout" and bool(node.constant(2)):
        ratio = float(node.constant(1)) if node.has(1) else 0.5
        if ratio != 0.0:
            raise InvalidModelError("training mode is not supported; export the model for inference")
    results: list[Value] = [node.value(0)]
    if node.wants(1):
        shape = relax.ShapeExpr([as_expression(extent) for extent in node.shape(0)])
        results.append(relax.op.full(shape, node.builder.constant(True, "bool"), "bool"))
    return results
