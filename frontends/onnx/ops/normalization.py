"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node
from ..precision import widened
from ..registry import converts
from ..tabulate import tabulate
from ..values import Value


@converts("BatchNormalization")
def batch_normalization(node: Node) -> Value | list[Value]:
    """Inference: one factor and one offset for each channel, computed here where they are constant."""
    if node.integer("training_mode", 0):
        return _batch_normalization_training(node)
    if not node.integer("spatial", 1):
        raise InvalidModelError("spatial=0 is not supported")
    x, rank = node.tensor(0), node.rank(0)
    shape = [1, -1, *[1] * (rank - 2)] if rank > 1 else [-1]
    if all(isinstance(node.value(i), np.ndarray) for i in range(1, 5)):
        scale, bias, mean, variance = (node.constant(i).astype(np.float64) for i in range(1, 5))
        factor = scale / np.sqrt(variance + node.number("epsilon", 1e-5))
        offset = bias - mean * factor
        dtype = node.dtype(0)
        extents = list(node.builder.shape(x))
        channel = min(1, rank - 1)
        extents[channel] = node.builder.unify(factor.size, extents[channel])
        x = node.builder.cast_shape(x, extents)
        scaled = node.emit(relax.op.multiply(x, node.builder.constant(factor.astype(dtype).reshape(shape))))
        return relax.op.add(scaled, node.builder.constant(offset.astype(dtype).reshape(shape)))
    channels = node.shape(0)[1] if rank > 1 else node.shape(0)[0]
    column = [channels if extent == -1 else extent for extent in shape]
    scale, bias, mean, variance = (node.builder.reshape(node.tensor(i), column) for i in range(1, 5))
    return _normalized(node, x, mean, variance, scale, bias)


def _batch_normalization_training(node: Node) -> list[Value]:
    x, shape = node.tensor(0), node.shape(0)
    axes = [0, *range(2, len(shape))]
    column = [1, shape[1], *[1] * (len(shape) - 2)]
    mean = node.emit(relax.op.mean(x, axes, keepdims=True))
    variance = node.emit(relax.op.variance(x, axes, keepdims=True))
    scale, bias = (node.builder.reshape(node.tensor(i), column) for i in (1, 2))
    momentum = node.number("momentum", 0.9)

    def running(index: int, batch: Expr) -> Expr:
        old, dtype = node.tensor(index), node.dtype(index)
        kept = node.emit(relax.op.multiply(old, node.builder.constant(momentum, dtype)))
        flat = node.builder.cast(node.builder.reshape(batch, [shape[1]]), dtype)
        new = node.emit(relax.op.multiply(flat, node.builder.constant(1 - momentum, dtype)))
        return relax.op.add(kept, new)

    return [_normalized(node, x, mean, variance, scale, bias), running(3, mean), running(4, variance)]


def _normalized(node: Node, x: Expr, mean: Expr, variance: Expr, scale: Expr, bias: Expr) -> Expr:
    dtype = node.builder.dtype(x)
    mean, variance, scale, bias = (node.builder.cast(t, dtype) for t in (mean, variance, scale, bias))
    centred = node.emit(relax.op.subtract(x, mean))
    epsilon = node.builder.constant(node.number("epsilon", 1e-5), dtype)
    deviation = node.emit(relax.op.sqrt(node.emit(relax.op.add(variance, epsilon))))
    factor = node.emit(relax.op.divide(scale, deviation))
    return relax.op.add(node.emit(relax.op.multiply(centred, factor)), bias)


@converts("InstanceNormalization")
def instance_normalization(node: Node) -> Expr:
    shape = node.shape(0)
    column = [1, shape[1], *[1] * (len(shape) - 2)]
    axes = list(range(2, len(shape)))

    def compute(x: Expr) -> Expr:
        mean = node.emit(relax.op.mean(x, axes, keepdims=True))
        rows = node.builder.reshape(x, [*shape[:2], node.extents.product(shape[2:])])
        variance = node.emit(relax.op.variance(rows, [2]))  # of rows, since those are summed in vectors
        variance = node.builder.reshape(variance, [*shape[:2], *[1] * len(axes)])
        scale, bias = (node.builder.reshape(node.tensor(i), column) for i in (1, 2))
        return _normalized(node, x, mean, variance, scale, bias)

    return widened(node.builder, compute, node.tensor(0))


@converts("GroupNormalization", since=18)
def group_normalization_by_group(node: Node) -> Expr:
    """Opset 18 has one scale and one bias a group."""
    return _group_normalization(node, per_channel=False)


@converts("GroupNormalization", since=21)
def group_normalization(node: Node) -> Expr:
    return _group_normalization(node, per_channel=True)


def _group_normalization(node: Node, per_channel: bool) -> Expr:
    shape, groups = node.shape(0), node.integer("num_groups")
    inner = node.extents.floor_divide(shape[1], groups)
    grouped_shape = [shape[0], groups, node.extents.product([inner, *shape[2:]])]
    spread = [shape[0], groups, inner, node.extents.product(shape[2:])]
    column = [1, groups, inner if per_channel else 1, 1]

    def compute(x: Expr) -> Expr:
        groups_of_x = node.builder.reshape(x, grouped_shape)
        mean = node.emit(relax.op.mean(groups_of_x, [2], keepdims=True))
        variance = node.emit(relax.op.variance(groups_of_x, [2], keepdims=True))
        mean, variance = (node.builder.reshape(t, [shape[0], groups, 1, 1]) for t in (mean, variance))
        scale, bias = (node.builder.reshape(node.tensor(i), column) for i in (1, 2))
        result = _normalized(node, node.builder.reshape(x, spread), mean, variance, scale, bias)
        return node.builder.reshape(node.builder.bound(result), shape)

    return widened(node.builder, compute, node.tensor(0))


@converts("LayerNormalization")
def layer_normalization(node: Node) -> list[Value]:
    x, rank = node.tensor(0), node.rank(0)
    axes = list(range(node.axis("axis", -1, rank), rank))
    dtype = node.dtype(0)
    wide = node.builder.cast(x, dtype if dtype == "float64" else "float32")
    if not node.wants(1) and not node.wants(2) and node.has(1):
        return [node.builder.cast(node.emit(_layer_norm(node, wide, axes)), dtype)]
    return _layer_norm_with_statistics(node, wide, axes)


def _layer_norm(node: Node, x: Expr, axes: list[int]) -> Expr:
    dtype = node.builder.dtype(x)
    shape = [node.builder.shape(x)[axis] for axis in axes]
    scale = _filled(node, 1, shape, dtype)
    bias = _filled(node, 2, shape, dtype)
    return relax.op.nn.layer_norm(x, scale, bias, axes, node.number("epsilon", 1e-5))


def _filled(node: Node, index: int, shape: Sequence[Extent], dtype: str) -> Expr:
    """A scale or bias in the full shape of the normalised axes; zeros if absent."""
    target = relax.ShapeExpr([as_expression(extent) for extent in shape])
    if not node.has(index):
        return node.emit(relax.op.zeros(target, dtype))
    tensor = node.builder.cast(node.tensor(index), dtype)
    known = node.builder.shape(tensor)
    if len(known) == len(shape) and all(map(node.extents.equal, known, shape)):
        return tensor
    return node.emit(relax.op.broadcast_to(tensor, target))


def _layer_norm_with_statistics(node: Node, x: Expr, axes: list[int]) -> list[Value]:
    dtype = node.builder.dtype(x)
    mean = node.emit(relax.op.mean(x, axes, keepdims=True))
    centred = node.emit(relax.op.subtract(x, mean))
    variance = node.emit(relax.op.mean(node.emit(relax.op.multiply(centred, centred)), axes, keepdims=True))
    epsilon = node.builder.constant(node.number("epsilon", 1e-5), dtype)
    inverse = node.emit(
        relax.op.divide(
            node.builder.constant(1, dtype),
            node.emit(relax.op.sqrt(node.emit(relax.op.add(variance, epsilon)))),
        )
    )
    result = node.emit(relax.op.multiply(centred, inverse))
    if node.has(1):
        result = node.emit(relax.op.multiply(result, node.builder.cast(node.tensor(1), dtype)))
    if node.has(2):
        result = node.emit(relax.op.add(result, node.builder.cast(node.tensor(2), dtype)))
    return [node.builder.cast(result, node.dtype(0)), mean, inverse]


@converts("RMSNormalization")
def rms_normalization(node: Node) -> Expr:
    x, rank = node.tensor(0), node.rank(0)
    axes = list(range(node.axis("axis", -1, rank), rank))
    dtype = node.dtype(0)
    wide = node.builder.cast(x, dtype if dtype == "float64" else "float32")
    kind = node.builder.dtype(wide)
    square = node.emit(relax.op.mean(node.emit(relax.op.multiply(wide, wide)), axes, keepdims=True))
    epsilon = node.builder.constant(node.number("epsilon", 1e-5), kind)
    root = node.emit(relax.op.sqrt(node.emit(relax.op.add(square, epsilon))))
    normal = node.builder.cast(node.emit(relax.op.divide(wide, root)), node.dtype(1))
    return relax.op.multiply(normal, node.tensor(1))


@converts("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Expr:
    axes = list(node.integers("axes", (0, 2, 3)))

    def compute(x: Expr) -> Expr:
        mean = node.emit(relax.op.mean(x, axes, keepdims=True))
        deviation = node.emit(relax.op.sqrt(node.emit(relax.op.variance(x, axes, keepdims=True))))
        centred = node.emit(relax.op.subtract(x, mean))
        epsilon = node.builder.constant(1e-9, node.builder.dtype(x))
        return relax.op.divide(centred, node.emit(relax.op.add(deviation, epsilon)))

    return widened(node.builder, compute, node.tensor(0))


@converts("LRN")
def local_response_normalization(node: Node) -> Expr:
    size, alpha = node.integer("size"), node.number("alpha", 1e-4)
    beta, bias = node.number("beta", 0.75), node.number("bias", 1.0)
    shape = node.shape(0)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2

    def compute(x: te.Tensor) -> te.Tensor:
        tap = te.reduce_axis((0, before + after + 1), name="tap")

        def square(*i: Any) -> Expr:
            channel = i[1] + tap - before
            inside = tirx.all(channel >= 0, channel < as_expression(shape[1]))
            value = x(i[0], channel, *i[2:])
            return te.sum(tirx.if_then_else(inside, value * value, tirx.const(0, x.dtype)), axis=tap)

        squares = tabulate(shape, square, name="lrn_sum")

        def normal(*i: Any) -> Expr:
            base = tirx.const(bias, x.dtype) + tirx.const(alpha / size, x.dtype) * squares(*i)
            return x(*i) / tirx.pow(base, tirx.const(beta, x.dtype))

        return tabulate(shape, normal, name="lrn")

    return widened(node.builder, lambda x: node.te(compute, x, name="lrn"), node.tensor(0))


@converts("LpNormalization")
def lp_normalization(node: Node) -> Expr:
    axis = node.axis("axis", -1, node.rank(0))
    p = node.integer("p", 2)

    def compute(x: Expr) -> Expr:
        powers = relax.op.abs(x) if p == 1 else relax.op.multiply(x, x)
        norm = node.emit(relax.op.sum(node.emit(powers), [axis], keepdims=True))
        if p == 2:
            norm = node.emit(relax.op.sqrt(norm))
        dtype = node.builder.dtype(x)
        zero, one = node.builder.constant(0, dtype), node.builder.constant(1, dtype)
        safe = node.emit(relax.op.where(node.emit(relax.op.equal(norm, zero)), one, norm))
        return relax.op.divide(x, safe)

    return widened(node.builder, compute, node.tensor(0))
