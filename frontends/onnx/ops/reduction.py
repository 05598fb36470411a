"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ..branches import over_axes, over_axis_sets
from ..extents import Extent, as_expression
from ..loops import loop, loop_kernel, unravelled
from ..node import Node, normalize_axis
from ..precision import is_float, widened
from ..registry import converts
from ..tabulate import tabulate
from ..values import Array
from .shape import axes_of

_Reduce = Callable[[Expr, list[int], bool], Expr]


def _reduction(node: Node, compute: _Reduce, empty: float) -> Expr:
    """A reduction over the node's axes; ``empty`` is the result over no elements at all."""
    if not node.integer("keepdims", 1) or not _axes_are_data(node):
        return _reduced(node, _reduced_axes(node), compute, empty)
    # The rank is the same whichever the axes are, so only extents depend on them.
    return over_axis_sets(node, 1, lambda axes: _reduced(node, _meant_axes(node, axes), compute, empty))


def _axes_are_data(node: Node) -> bool:
    return node.has(1) and not node.is_shape_like(1) and node.shape(1) != (0,)


def _reduced(node: Node, chosen: list[int], compute: _Reduce, empty: float) -> Expr:
    keep = bool(node.integer("keepdims", 1))

    def guarded(x: Expr) -> Expr:
        extents = [node.builder.shape(x)[axis] for axis in chosen]
        if any(isinstance(extent, int) and extent == 0 for extent in extents):
            return _full(node, x, chosen, keep, empty)
        result = node.builder.bound(compute(x, chosen, keep))
        possible = [extent for extent in extents if not node.extents.at_least(extent, 1)]
        return _unless_empty(node, result, possible, empty) if possible else result

    return widened(node.builder, guarded, node.tensor(0))


def _reduced_axes(node: Node) -> list[int]:
    return _meant_axes(node, axes_of(node))


def _meant_axes(node: Node, axes: Sequence[int] | None) -> list[int]:
    """The axes to reduce over; where none are named, the node says whether that means all."""
    rank = node.rank(0)
    if not axes:
        axes = [] if node.integer("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({normalize_axis(axis, rank) for axis in axes})


def _full(node: Node, x: Expr, axes: list[int], keep: bool, value: float) -> Expr:
    shape = [
        as_expression(1 if axis in axes else extent)
        for axis, extent in enumerate(node.builder.shape(x))
        if keep or axis not in axes
    ]
    dtype = node.builder.dtype(x)
    return relax.op.full(relax.ShapeExpr(shape), node.builder.constant(_identity(value, dtype)), dtype)


def _identity(value: float, dtype: str) -> Array:
    """A reduction's neutral element in a type; integers have no infinity, but a largest value."""
    if dtype == "bool":
        return np.asarray(value > 0)
    if is_float(dtype) or np.isfinite(value):
        return np.asarray(value).astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(limits.max if value > 0 else limits.min, dtype)


def _unless_empty(node: Node, result: Expr, extents: list[Extent], empty: float) -> Expr:
    """A loop over nothing would leave its result unwritten, so that case is decided here."""
    dtype = node.builder.dtype(result)
    value = tirx.const(_identity(empty, dtype).item(), dtype)

    def compute(x: te.Tensor) -> te.Tensor:
        is_empty = tirx.any(*(as_expression(extent) == 0 for extent in extents))
        return tabulate(x.shape, lambda *i: tirx.Select(is_empty, value, x(*i)), name="unless_empty")

    return node.te(compute, result, name="unless_empty")


@converts("ReduceSum")
def reduce_sum(node: Node) -> Expr:
    return _reduction(node, _sum, 0)


def _sum(x: Expr, axes: list[int], keep: bool) -> Expr:
    return relax.op.sum(x, axes, keep) if axes else x


@converts("ReduceMean")
def reduce_mean(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _mean(node, x, axes, keep), np.nan)


def _mean(node: Node, x: Expr, axes: list[int], keep: bool) -> Expr:
    if not axes:
        return x
    dtype = node.builder.dtype(x)
    if is_float(dtype):
        return relax.op.mean(x, axes, keep)
    total = node.emit(relax.op.sum(x, axes, keep))
    count = as_expression(node.extents.product(node.builder.shape(x)[axis] for axis in axes)).astype(dtype)

    def divide(t: te.Tensor) -> te.Tensor:
        return tabulate(t.shape, lambda *i: tirx.truncdiv(t(*i), count), name="mean")

    return node.te(divide, total, name="mean")


@converts("ReduceProd")
def reduce_product(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: relax.op.prod(x, axes, keep) if axes else x, 1)


@converts("ReduceMax", "ReduceMin")
def reduce_extremum(node: Node) -> Expr:
    largest = node.op_type == "ReduceMax"
    worst = -np.inf if largest else np.inf

    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        if not axes:
            return x
        operator = relax.op.max if largest else relax.op.min
        if node.builder.dtype(x) != "bool":
            return operator(x, axes, keep)
        narrow = node.emit(operator(node.builder.cast(x, "uint8"), axes, keep))
        return relax.op.astype(narrow, "bool")

    return _reduction(node, compute, worst)


@converts("ReduceSumSquare")
def reduce_sum_square(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _sum(node.emit(relax.op.multiply(x, x)), axes, keep), 0)


@converts("ReduceL1")
def reduce_l1(node: Node) -> Expr:
    return _reduction(node, lambda x, axes, keep: _sum(node.emit(relax.op.abs(x)), axes, keep), 0)


@converts("ReduceL2")
def reduce_l2(node: Node) -> Expr:
    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        dtype = node.builder.dtype(x)
        wide = node.builder.cast(x, dtype if is_float(dtype) else "float64")
        total = _sum(node.emit(relax.op.multiply(wide, wide)), axes, keep)
        return node.builder.cast(node.emit(relax.op.sqrt(node.builder.bound(total))), dtype)

    return _reduction(node, compute, 0)


@converts("ReduceLogSum")
def reduce_log_sum(node: Node) -> Expr:
    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        return relax.op.log(node.builder.bound(_sum(x, axes, keep)))

    return _reduction(node, compute, -np.inf)


@converts("ReduceLogSumExp")
def reduce_log_sum_exp(node: Node) -> Expr:
    """log(sum(exp(x))), shifted by the maximum so that it neither overflows nor vanishes."""

    def compute(x: Expr, axes: list[int], keep: bool) -> Expr:
        if not axes:
            return x
        peak = _finite(node, node.emit(relax.op.max(x, axes, True)))
        powers = node.emit(relax.op.exp(node.emit(relax.op.subtract(x, peak))))
        total = node.emit(relax.op.log(node.emit(relax.op.sum(powers, axes, True))))
        result = node.emit(relax.op.add(total, peak))
        return result if keep else relax.op.squeeze(result, axes)

    return _reduction(node, compute, -np.inf)


def _finite(node: Node, peak: Expr) -> Expr:
    """The shift: zero where the maximum is infinite, since infinity minus infinity is no number."""
    dtype = node.builder.dtype(peak)
    finite = node.emit(relax.op.isfinite(peak))
    return node.emit(relax.op.where(finite, peak, node.builder.constant(np.zeros((), dtype))))


@converts("ArgMax", "ArgMin")
def arg_extremum(node: Node) -> Expr:
    rank = node.rank(0)
    axis = node.axis("axis", 0, rank)
    keep = bool(node.integer("keepdims", 1))
    tensor = node.tensor(0)
    op = relax.op.argmax if node.op_type == "ArgMax" else relax.op.argmin
    if not node.integer("select_last_index", 0):
        return op(tensor, axis, keep)
    flipped = node.emit(relax.op.flip(tensor, axis))
    from_end = node.emit(op(flipped, axis, keep))
    last = as_expression(node.extents.simplify(node.shape(0)[axis] - 1))

    def mirror(index: te.Tensor) -> te.Tensor:
        return tabulate(index.shape, lambda *i: last - index(*i), name="mirrored_index")

    return node.te(mirror, from_end, name="mirrored_index")


@converts("CumSum", "CumProd")
def cumulative(node: Node) -> Expr:
    """Running sums or products along an axis."""
    return over_axes(node, 1, range(node.rank(0)), lambda axis: _cumulated(node, axis))


def _cumulated(node: Node, axis: int) -> Expr:
    """One line after another."""
    dtype, shape = node.dtype(0), node.shape(0)
    exclusive, reverse = bool(node.integer("exclusive", 0)), bool(node.integer("reverse", 0))
    lines = [*shape[:axis], *shape[axis + 1 :]]
    wide = "float32" if dtype in ("float16", "bfloat16") else dtype
    summing = node.op_type == "CumSum"
    count = as_expression(shape[axis])

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (data,), (result, total) = inputs, outputs
        with loop(node.extents.product(lines)) as line:
            total[0] = tirx.const(0 if summing else 1, wide)
            with loop(shape[axis]) as step:
                along = count - 1 - step if reverse else step
                rest = unravelled(line, lines)
                place = (*rest[:axis], along, *rest[axis:])
                if exclusive:
                    result[place] = total[0]
                total[0] = total[0] + data[place] if summing else total[0] * data[place]
                if not exclusive:
                    result[place] = total[0]

    tensor = node.builder.cast(node.tensor(0), wide)
    outputs = [(shape, wide), ((1,), wide)]
    result = loop_kernel(node.builder, [tensor], outputs, statements, "cumulative")[0]
    return node.builder.cast(result, dtype)
