"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ..extents import as_expression
from ..node import Node, normalize_axis
from ..precision import is_float, widened
from ..tabulate import tabulate
from ..registry import converts
from .shape import axes_of

_Reduce = Callable[[Expr, list[int], bool], Expr]


def _reduction(node: Node, compute: _Reduce) -> Expr:
    tensor, rank = node.tensor(0), node.rank(0)
    axes = axes_of(node)
    if not axes:
        if axes is not None and node.int("noop_with_empty_axes", 0):
            axes = []
        elif node.int("noop_with_empty_axes", 0):
            axes = []
        else:
            axes = list(range(rank))
    chosen = sorted({normalize_axis(axis, rank) for axis in axes})
    keep = bool(node.int("keepdims", 1))
    return widened(node.builder, lambda x: compute(x, chosen, keep), tensor)


@converts("ReduceSum")
def reduce_sum(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _sum(x, axes, keep))


def _sum(x: Expr, axes: list[int], keep: bool) -> Expr:
    return relax.op.sum(x, axes, keep) if axes else x


@converts("ReduceMean")
def reduce_mean(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _mean(node, x, axes, keep))


def _mean(node: Node, x: Expr, axes: list[int], keep: bool) -> Expr:
    if not axes:
        return x
    dtype = node.builder.dtype(x)
    if is_float(dtype):
        return relax.op.mean(x, axes, keep)
    total = node.emit(relax.op.sum(x, axes, keep))
    count = node.extents.product(node.builder.shape(x)[axis] for axis in axes)

    def divide(t: te.Tensor) -> te.Tensor:
        return tabulate(
            t.shape, lambda *i: tirx.truncdiv(t(*i), as_expression(count).astype(dtype)), name="mean"
        )

    return node.te(divide, total, name="mean")


@converts("ReduceProd")
def reduce_product(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: relax.op.prod(x, axes, keep) if axes else x)


@converts("ReduceMax", "ReduceMin")
def reduce_extremum(node: Node) -> Expr:
    largest = node.op_type == "ReduceMax"
    if node.dtype(0) == "bool":
        narrow = node.builder.cast(node.tensor(0), "uint8")
        reduced = _reduction_of(node, narrow, relax.op.max if largest else relax.op.min)
        return relax.op.astype(reduced, "bool")
    op = relax.op.max if largest else relax.op.min
    return _reduction(node, lambda x, axes, keep: op(x, axes, keep) if axes else x)


def _reduction_of(node: Node, tensor: Expr, op: _Reduce) -> Expr:
    axes = axes_of(node) or list(range(node.rank(0)))
    return node.emit(
        op(tensor, sorted(normalize_axis(a, node.rank(0)) for a in axes), bool(node.int("keepdims", 1)))
    )


@converts("ReduceSumSquare")
def reduce_sum_square(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _sum(node.emit(relax.op.multiply(x, x)), axes, keep))


@converts("ReduceL1")
def reduce_l1(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _sum(node.emit(relax.op.abs(x)), axes, keep))


@converts("ReduceL2")
def reduce_l2(node: Node) -> Expr:
    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        dtype = node.builder.dtype(x)
        wide = node.builder.cast(x, dtype if is_float(dtype) else "float64")
        total = _sum(node.emit(relax.op.multiply(wide, wide)), axes, keep)
        return node.builder.cast(node.emit(relax.op.sqrt(node.builder.bound(total))), dtype)

    return _reduction(node, compute)


@converts("ReduceLogSum")
def reduce_log_sum(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: relax.op.log(node.builder.bound(_sum(x, axes, keep))))


@converts("ReduceLogSumExp")
def reduce_log_sum_exp(node: Node) -> Expr:
    """log(sum(exp(x))), shifted by the maximum so that it neither overflows nor vanishes."""

    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        if not axes:
            return x
        if any(extent == 0 for extent in node.builder.shape(x) if isinstance(extent, int)):
            return relax.op.log(node.emit(relax.op.sum(node.emit(relax.op.exp(x)), axes, keep)))
        peak = _finite(node, node.emit(relax.op.max(x, axes, True)))
        total = node.emit(
            relax.op.sum(node.emit(relax.op.exp(node.emit(relax.op.subtract(x, peak)))), axes, True)
        )
        result = node.emit(relax.op.add(node.emit(relax.op.log(total)), peak))
        return result if keep else relax.op.squeeze(result, axes)

    return _reduction(node, compute)


def _finite(node: Node, peak: Expr) -> Expr:
    """The shift: zero where the maximum is infinite, since infinity minus infinity is no number."""
    dtype = node.builder.dtype(peak)
    finite = node.emit(relax.op.isfinite(peak))
    return node.emit(relax.op.where(finite, peak, node.builder.constant(np.zeros((), dtype))))


@converts("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> Expr:
    rank = node.rank(0)
    axis = node.axis("axis", 0, rank)
    keep = bool(node.int("keepdims", 1))
    tensor = node.tensor(0)
    op = relax.op.argmax if node.op_type == "ArgMax" else relax.op.argmin
    if not node.int("select_last_index", 0):
        return op(tensor, axis, keep)
    flipped = node.emit(relax.op.flip(tensor, axis))
    from_end = node.emit(op(flipped, axis, keep))
    last = as_expression(node.extents.simplify(node.shape(0)[axis] - 1))

    def mirror(index: te.Tensor) -> te.Tensor:
        return tabulate(index.shape, lambda *i: last - index(*i), name="mirrored_index")

    return node.te(mirror, from_end, name="mirrored_index")


@converts("CumSum")
def cumulative_sum(node: Node) -> Expr:
    return _cumulative(node, relax.op.cumsum)


@converts("CumProd")
def cumulative_product(node: Node) -> Expr:
    return _cumulative(node, relax.op.cumprod)


def _cumulative(node: Node, op: Callable[..., Expr]) -> Expr:
    axis = normalize_axis(int(node.constant(1).reshape(-1)[0]), node.rank(0))
    exclusive = bool(node.int("exclusive", 0))
    tensor = node.tensor(0)
    if not node.int("reverse", 0):
        return op(tensor, axis, exclusive=exclusive)
    flipped = node.emit(relax.op.flip(tensor, axis))
    return relax.op.flip(node.emit(op(flipped, axis, exclusive=exclusive)), axis)
