"""Activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr

from ..node import Node, normalize_axis
from ..precision import widened
from ..registry import converts
from ..tabulate import tabulate
from .elementwise import clipped, map_elements


@converts("Relu")
def relu(node: Node) -> Expr:
    return relax.op.nn.relu(node.tensor(0))


@converts("LeakyRelu")
def leaky_relu(node: Node) -> Expr:
    return relax.op.nn.leakyrelu(node.tensor(0), node.number("alpha", 0.01))


@converts("PRelu")
def prelu(node: Node) -> Expr:
    slopes = node.tensor(1)
    if node.has_attribute("axis"):
        count = node.extents.product(node.shape(1))
        slopes = node.builder.reshape(slopes, [count, *[1] * (node.rank(0) - 1 - node.integer("axis"))])
    x, slope = node.builder.broadcastable(node.tensor(0), slopes)

    def compute(a: Any, s: Any) -> Expr:
        return tirx.Select(a < tirx.const(0, a.ty.dtype), a * s, a)

    return map_elements(node, compute, x, slope, name="prelu")


@converts("HardSigmoid")
def hard_sigmoid(node: Node) -> Expr:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    return _hard_sigmoid(node, alpha, beta)


@converts("HardSwish")
def hard_swish(node: Node) -> Expr:
    return relax.op.multiply(node.tensor(0), node.emit(_hard_sigmoid(node, 1 / 6, 0.5)))


def _hard_sigmoid(node: Node, alpha: float, beta: float) -> Expr:
    """alpha * x + beta between 0 and 1, of operators that the layout pass knows."""
    dtype = node.dtype(0)
    scaled = node.emit(relax.op.multiply(node.tensor(0), node.builder.constant(alpha, dtype)))
    line = node.emit(relax.op.add(scaled, node.builder.constant(beta, dtype)))
    return clipped(line, dtype, 0.0, 1.0)


@converts("Elu")
def elu(node: Node) -> Expr:
    alpha = node.number("alpha", 1.0)
    return _pointwise(node, lambda x: _where_positive(x, x, _c(alpha, x) * (tirx.exp(x) - _c(1, x))), "elu")


@converts("Selu")
def selu(node: Node) -> Expr:
    alpha = node.number("alpha", 1.67326319217681884765625)
    gamma = node.number("gamma", 1.05070102214813232421875)

    def compute(x: Any) -> Expr:
        return _c(gamma, x) * _where_positive(x, x, _c(alpha, x) * (tirx.exp(x) - _c(1, x)))

    return _pointwise(node, compute, "selu")


@converts("Celu")
def celu(node: Node) -> Expr:
    alpha = node.number("alpha", 1.0)

    def compute(x: Any) -> Expr:
        return _where_positive(x, x, _c(alpha, x) * (tirx.exp(x / _c(alpha, x)) - _c(1, x)))

    return _pointwise(node, compute, "celu")


@converts("ThresholdedRelu")
def thresholded_relu(node: Node) -> Expr:
    alpha = node.number("alpha", 1.0)
    return _pointwise(node, lambda x: tirx.Select(x > _c(alpha, x), x, _c(0, x)), "thresholded_relu")


@converts("Shrink")
def shrink(node: Node) -> Expr:
    bias, threshold = node.number("bias", 0.0), node.number("lambd", 0.5)
    dtype = node.dtype(0)

    def compute(x: Any) -> Expr:
        above = tirx.Select(x > _c(threshold, x), x - _c(bias, x), _c(0, x))
        return tirx.Select(x < _c(-threshold, x), x + _c(bias, x), above)

    wide = node.builder.cast(node.tensor(0), dtype if dtype == "float64" else "float32")
    return node.builder.cast(map_elements(node, compute, wide, name="shrink"), dtype)


@converts("Softplus")
def softplus(node: Node) -> Expr:
    """log(1 + exp(x)), written so that neither side overflows."""

    def compute(x: Any) -> Expr:
        tail = tirx.log1p(tirx.exp(-tirx.abs(x)))
        return tirx.max(x, _c(0, x)) + tail

    return _pointwise(node, compute, "softplus")


@converts("Softsign")
def softsign(node: Node) -> Expr:
    return _pointwise(node, lambda x: x / (_c(1, x) + tirx.abs(x)), "softsign")


_MISH_IS_X = 20.0  # from here on, in double precision, too


@converts("Mish")
def mish(node: Node) -> Expr:
    # tanh(ln(1 + e)) is n / (n + 2) with n = e (e + 2): one elementary function in the place of three.
    def compute(x: Any) -> Expr:
        power = tirx.exp(tirx.min(x, _c(_MISH_IS_X, x)))
        n = power * (power + _c(2, x))
        return x * (n / (n + _c(2, x)))

    return _pointwise(node, compute, "mish")


@converts("Swish")
def swish(node: Node) -> Expr:
    alpha = node.number("alpha", 1.0)
    if alpha == 1.0:
        return widened(node.builder, relax.op.nn.silu, node.tensor(0))
    return _pointwise(node, lambda x: x * tirx.sigmoid(_c(alpha, x) * x), "swish")


@converts("Gelu")
def gelu(node: Node) -> Expr:
    exact = node.text("approximate", "none") == "none"
    convert = relax.op.nn.gelu if exact else gelu_by_tanh(node)
    return widened(node.builder, convert, node.tensor(0))


def gelu_by_tanh(node: Node) -> Callable[[Expr], Expr]:
    """The approximation of GELU by a hyperbolic tangent."""
    scale = math.sqrt(2 / math.pi)

    def compute(x: Any) -> Expr:
        inner = _c(scale, x) * (x + _c(0.044715, x) * x * x * x)
        return _c(0.5, x) * x * (_c(1, x) + tirx.tanh(inner))

    return lambda tensor: map_elements(node, compute, tensor, name="gelu_tanh")


@converts("Softmax", "LogSoftmax", "Hardmax")
def flattening_softmax(node: Node) -> Expr:
    """Before opset 13 all axes from ``axis`` on are normalised together."""
    shape = node.shape(0)
    axis = normalize_axis(node.integer("axis", 1), len(shape))
    product = node.extents.product
    flat = node.builder.reshape(node.tensor(0), (product(shape[:axis]), product(shape[axis:])))
    return node.builder.reshape(node.builder.bound(_softmax(node, flat, 1)), shape)


@converts("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(node: Node) -> Expr:
    tensor, rank = node.tensor(0), node.rank(0)
    if rank == 0:
        return node.builder.reshape(
            node.builder.bound(_softmax(node, node.builder.reshape(tensor, (1,)), 0)), ()
        )
    return _softmax(node, tensor, node.axis("axis", -1, rank))


def _softmax(node: Node, tensor: Expr, axis: int) -> Expr:
    if node.op_type == "Hardmax":
        return _hardmax(node, tensor, axis)
    convert = relax.op.nn.softmax if node.op_type == "Softmax" else relax.op.nn.log_softmax
    return widened(node.builder, lambda x: convert(x, axis), tensor)


def _hardmax(node: Node, tensor: Expr, axis: int) -> Expr:
    first = node.emit(relax.op.argmax(tensor, axis, keepdims=True))

    def compute(winner: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            place = [*index[:axis], tirx.IntImm("int64", 0), *index[axis + 1 :]]
            return tirx.Select(winner(*place) == index[axis], tirx.const(1, dtype), tirx.const(0, dtype))

        return tabulate(shape, element, name="hardmax")

    shape, dtype = node.builder.shape(tensor), node.builder.dtype(tensor)
    return node.te(compute, first, name="hardmax")


def _pointwise(node: Node, compute: Any, name: str) -> Expr:
    return widened(node.builder, lambda x: map_elements(node, compute, x, name=name), node.tensor(0))


def _c(value: float, like: Any) -> Expr:
    return tirx.const(value, like.ty.dtype)


def _where_positive(x: Any, positive: Any, other: Any) -> Expr:
    return tirx.Select(x > _c(0, x), positive, other)
