"""Matrix products."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..graph_builder import GraphBuilder
from ..node import Node
from ..precision import is_float
from ..registry import converts


@converts("MatMul")
def matmul(node: Node) -> Expr:
    return product(node.builder, node.tensor(0), node.tensor(1))


def product(builder: GraphBuilder, a: Expr, b: Expr) -> Expr:
    """``a @ b`` with NumPy's rules; narrow floats accumulate in float32."""
    a, b = _agreeing(builder, a, b)
    dtype = builder.dtype(a)
    if dtype in ("float16", "bfloat16"):
        return builder.cast(builder.emit(relax.op.matmul(a, b, out_dtype="float32")), dtype)
    return builder.bound(relax.op.matmul(a, b))


def _agreeing(builder: GraphBuilder, a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """The operands with one common inner extent and broadcastable outer ones."""
    shape_a, shape_b = list(builder.shape(a)), list(builder.shape(b))
    if not shape_a or not shape_b:
        raise InvalidModelError("a matrix product needs operands of rank 1 or more")
    row = max(len(shape_b) - 2, 0)
    shape_a[-1] = shape_b[row] = builder.unify(shape_a[-1], shape_b[row])
    outer = builder.broadcast_shape(shape_a[:-2], shape_b[:-2])
    for shape in (shape_a, shape_b):
        for axis in range(len(shape) - 2):
            common = outer[axis - (len(shape) - 2)]
            if not builder.extents.equal(shape[axis], 1):
                shape[axis] = common
    return builder.cast_shape(a, shape_a), builder.cast_shape(b, shape_b)


@converts("Gemm")
def gemm(node: Node) -> Expr:
    builder = node.builder
    a = _transposed(node, 0) if node.integer("transA", 0) else node.tensor(0)
    b = _transposed(node, 1) if node.integer("transB", 0) else node.tensor(1)
    result = _scaled(node, product(builder, a, b), node.number("alpha", 1.0))
    beta = node.number("beta", 1.0)
    if not node.has(2) or beta == 0:
        return result
    bias = node.value(2)
    if isinstance(bias, np.ndarray) and is_float(str(bias.dtype)):
        addend: Expr = builder.constant((bias * bias.dtype.type(beta)).astype(bias.dtype))
    else:
        addend = _scaled(node, node.tensor(2), beta)
    return relax.op.add(*builder.broadcastable(result, addend))


def _scaled(node: Node, tensor: Expr, factor: float) -> Expr:
    if factor == 1.0:
        return tensor
    return node.emit(relax.op.multiply(tensor, node.builder.constant(factor, node.builder.dtype(tensor))))


def _transposed(node: Node, index: int) -> Expr:
    value = node.value(index)
    if isinstance(value, np.ndarray):
        return node.builder.constant(np.ascontiguousarray(value.T))
    return node.emit(relax.op.permute_dims(node.tensor(index), [1, 0]))
