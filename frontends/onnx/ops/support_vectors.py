"""ai.onnx.ml: support vector machines."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..node import Node
from ..registry import converts


@converts("SVMRegressor", domain="ai.onnx.ml")
def svm_regressor(node: Node) -> Expr:
    """[n, features] to [n, 1]: a weighted sum of the kernel's values for all support vectors.

    Without support vectors the coefficients are those of the features.
    """
    if node.text("post_transform", "NONE") != "NONE":
        raise InvalidModelError("SVMRegressor: a post_transform is not supported")
    x = node.builder.cast(node.tensor(0), "float32")
    coefficients = np.array(node.numbers("coefficients"), np.float32).reshape(-1, 1)
    count = node.integer("n_supports", 0)
    if count:
        vectors = np.array(node.numbers("support_vectors"), np.float32).reshape(count, -1)
        x = _similarities(node, x, vectors)
    total = node.emit(relax.op.matmul(x, node.builder.constant(coefficients)))
    rho = node.builder.constant(np.array(node.numbers("rho")[:1], np.float32))
    score = node.emit(relax.op.add(total, rho))
    if not node.integer("one_class", 0):
        return score
    sides = (node.builder.constant(np.float32(side)) for side in (1, -1))
    return relax.op.where(node.emit(relax.op.greater(score, node.builder.constant(np.float32(0)))), *sides)


def _similarities(node: Node, x: Expr, vectors: np.ndarray) -> Expr:
    """The kernel's value for each row of [n, features] and each support vector."""
    kind = node.text("kernel_type", "LINEAR")
    gamma, offset, degree = node.numbers("kernel_params", (0.0, 0.0, 0.0))
    number = node.builder.constant
    if kind == "RBF":
        rows = node.builder.reshape(x, [node.shape(0)[0], 1, vectors.shape[1]])
        difference = node.emit(relax.op.subtract(rows, number(vectors[None])))
        distance = node.emit(relax.op.sum(node.emit(relax.op.multiply(difference, difference)), [2]))
        return node.emit(relax.op.exp(node.emit(relax.op.multiply(distance, number(np.float32(-gamma))))))
    product = node.emit(relax.op.matmul(x, number(np.ascontiguousarray(vectors.T))))
    if kind == "LINEAR":
        return product
    scaled = node.emit(relax.op.multiply(product, number(np.float32(gamma))))
    moved = node.emit(relax.op.add(scaled, number(np.float32(offset))))
    if kind == "SIGMOID":
        return node.emit(relax.op.tanh(moved))
    if kind == "POLY":
        return _power(node, moved, int(degree))
    raise InvalidModelError(f"the kernel {kind} does not exist")


def _power(node: Node, base: Expr, exponent: int) -> Expr:
    """A power of any base, by multiplication."""
    if not 0 < exponent <= _LARGEST_DEGREE:
        raise InvalidModelError(f"a polynomial kernel of degree {exponent} is not supported")
    result = base
    for _ in range(exponent - 1):
        result = node.emit(relax.op.multiply(result, base))
    return result


_LARGEST_DEGREE = 16
