"""Reductions of rows, softmax and normalisation over the innermost axes.

A row is reduced into ``ROW_LANES`` partial results side by side, which vectors can hold; what is left over at
its end is reduced by itself. So no vector needs a guard, for any extent, a symbolic one too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te, tirx

from . import WORKLOAD

ROW_LANES = 16
ROW_REDUCTION = "row_reduction"
"""Marks the blocks that reduce a row."""
COLUMN_REDUCTION = "column_reduction"
"""Marks the blocks that reduce columns side by side."""
_MARK = {WORKLOAD: ROW_REDUCTION}

Index = Sequence[tirx.Expr]
Load = Callable[[Index, tirx.Expr], tirx.Expr]
Combine = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


@dataclass(frozen=True)
class Reducer:
    """How the elements of a row combine.

    Attributes:
        reduce: a TE reduction.
        combine: the same for two values.
        identity: the value of a type that changes nothing.
    """

    reduce: Callable[..., tirx.Expr]
    combine: Combine
    identity: Callable[[str], tirx.Expr]

    def neutral(self, like: tirx.Expr) -> tirx.Expr:
        """The identity in the type of ``like``."""
        return self.identity(str(like.ty.dtype))


SUM = Reducer(te.sum, lambda a, b: a + b, lambda dtype: tirx.const(0, dtype))
MAX = Reducer(te.max, tirx.max, tirx.min_value)
MIN = Reducer(te.min, tirx.min, tirx.max_value)


def _from_infinity(combine: Combine, infinity: float, name: str) -> Reducer:
    def identity(dtype: str) -> tirx.Expr:
        return tirx.const(infinity, dtype)

    return Reducer(te.comm_reducer(lambda a, b: combine(a, b), identity, name=name), combine, identity)


LARGEST = _from_infinity(tirx.max, -math.inf, "largest")
"""As ``MAX``, but that of negative infinities is one, too."""
SMALLEST = _from_infinity(tirx.min, math.inf, "smallest")


def reduce_rows(rows: Index, extent: tirx.Expr, load: Load, reducer: Reducer, name: str) -> te.Tensor:
    """Reduces ``load(row, k)`` over k < ``extent`` for every row; returns a tensor of shape ``rows``."""
    length = _known(extent)
    if length is not None:
        known = _serial_row if length < ROW_LANES else _vector_row
        return known(rows, length, load, reducer, name)
    whole = tirx.floordiv(extent, ROW_LANES)
    steps = te.reduce_axis((0, whole), "vector")
    partial = _partial(rows, lambda row, lane: load(row, steps * ROW_LANES + lane), steps, reducer, name)
    total = _total(rows, partial, reducer, f"{name}_total")
    rest = extent - whole * ROW_LANES
    tail = _serial_row(rows, rest, load, reducer, f"{name}_tail", start=whole * ROW_LANES)
    return te.compute(rows, lambda *i: reducer.combine(total(*i), tail(*i)), name=name)


def _vector_row(rows: Index, extent: int, load: Load, reducer: Reducer, name: str) -> te.Tensor:
    """Several vectors a step. The last step starts early, ends with the row, and skips what is done."""
    vectors = next(count for count in (4, 2, 1) if extent >= 2 * count * ROW_LANES or count == 1)
    width = vectors * ROW_LANES
    steps = te.reduce_axis((0, -(-extent // width)), "vector")
    start = steps * width
    first = start if extent % width == 0 else tirx.min(start, extent - width)

    def step(row: Index, lane: tirx.Expr) -> tirx.Expr:
        return _tree([fresh(row, first + (part * ROW_LANES + lane)) for part in range(vectors)], reducer)

    def fresh(row: Index, k: tirx.Expr) -> tirx.Expr:
        value = load(row, k)
        return value if extent % width == 0 else tirx.Select(k >= start, value, reducer.neutral(value))

    partial = _partial(rows, step, steps, reducer, name)
    return _total(rows, partial, reducer, f"{name}_total")


def _partial(rows: Index, step: Load, steps: tirx.IterVar, reducer: Reducer, name: str) -> te.Tensor:
    """[*rows, ROW_LANES]: ``step(row, lane)`` reduced over ``steps``."""
    return te.compute(
        (*rows, ROW_LANES),
        lambda *i: reducer.reduce(step(i[:-1], i[-1]), axis=steps),
        name=f"{name}_partial",
        attrs=_MARK,
    )


def _total(rows: Index, partial: te.Tensor, reducer: Reducer, name: str) -> te.Tensor:
    """Reduces the lanes, by halves side by side: one after the other would wait for each sum."""
    half = ROW_LANES // 2
    halves = te.reduce_axis((0, 2), "half")
    return te.compute(
        rows,
        lambda *i: reducer.reduce(
            _tree([partial(*i, halves * half + lane) for lane in range(half)], reducer), axis=halves
        ),
        name=name,
        attrs=_MARK,
    )


def _serial_row(
    rows: Index, extent: tirx.Expr | int, load: Load, reducer: Reducer, name: str, start: tirx.Expr | int = 0
) -> te.Tensor:
    """Element after element."""
    k = te.reduce_axis((0, extent), "k")
    return te.compute(rows, lambda *i: reducer.reduce(load(i, start + k), axis=k), name=name, attrs=_MARK)


def _tree(values: list[tirx.Expr], reducer: Reducer) -> tirx.Expr:
    """``values``, a power of two of them, combined in pairs."""
    while len(values) > 1:
        values = [reducer.combine(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _known(extent: tirx.Expr | int) -> int | None:
    return int(extent) if isinstance(extent, int | tirx.IntImm) else None


def exp_below_zero(x: tirx.Expr) -> tirx.Expr:
    """e^x of an x that is never positive, spelled so that a target can see that."""
    return tirx.exp(tirx.min(x, tirx.const(0, x.ty.dtype)))


def softmax_rows(x: te.Tensor) -> te.Tensor:
    """Softmax over the last axis."""
    *rows, extent = x.shape
    largest = reduce_rows(rows, extent, lambda row, k: x(*row, k), MAX, "row_max")
    exp = te.compute(x.shape, lambda *i: exp_below_zero(x(*i) - largest(*i[:-1])), name="row_exp")
    total = reduce_rows(rows, extent, lambda row, k: exp(*row, k), SUM, "row_sum")
    if x.dtype != "float32":  # A rounded factor would cost a half much of its precision.
        return te.compute(x.shape, lambda *i: exp(*i) / total(*i[:-1]), name="softmax")
    inverse = te.compute(rows, lambda *i: tirx.const(1, x.dtype) / total(*i), name="row_inverse")
    return te.compute(x.shape, lambda *i: exp(*i) * inverse(*i[:-1]), name="softmax")


def softmax_columns(x: te.Tensor, axis: int) -> te.Tensor:
    """Softmax over an ``axis`` that is not the last one: columns side by side, in vectors."""
    others = [*x.shape[:axis], *x.shape[axis + 1 :]]

    def without(index: Index) -> Index:
        return [*index[:axis], *index[axis + 1 :]]

    def column(tensor: te.Tensor, reducer: Reducer, name: str) -> te.Tensor:
        k = te.reduce_axis((0, x.shape[axis]), "k")
        place = lambda *i: reducer.reduce(tensor(*i[:axis], k, *i[axis:]), axis=k)  # noqa: E731
        return te.compute(others, place, name=name, attrs={WORKLOAD: COLUMN_REDUCTION})

    largest = column(x, MAX, "column_max")
    exp = te.compute(x.shape, lambda *i: exp_below_zero(x(*i) - largest(*without(i))), name="column_exp")
    total = column(exp, SUM, "column_sum")
    inverse = te.compute(others, lambda *i: tirx.const(1, x.dtype) / total(*i), name="column_inverse")
    return te.compute(x.shape, lambda *i: exp(*i) * inverse(*without(i)), name="softmax")


def log_softmax_rows(x: te.Tensor) -> te.Tensor:
    """Logarithm of the softmax over the last axis."""
    *rows, extent = x.shape
    largest = reduce_rows(rows, extent, lambda row, k: x(*row, k), MAX, "row_max")
    total = reduce_rows(
        rows, extent, lambda row, k: exp_below_zero(x(*row, k) - largest(*row)), SUM, "row_sum"
    )
    shift = te.compute(rows, lambda *i: largest(*i) + tirx.log(total(*i)), name="row_log_sum")
    return te.compute(x.shape, lambda *i: x(*i) - shift(*i[:-1]), name="log_softmax")


def layer_norm_rows(x: te.Tensor, gamma: te.Tensor, beta: te.Tensor, epsilon: float) -> te.Tensor:
    """Layer normalisation over the last axis (Ba et al., 2016), the variance from centred values.

    x [..., K], gamma and beta [K].
    """
    *rows, extent = x.shape
    count = tirx.Cast(x.dtype, extent)
    total = reduce_rows(rows, extent, lambda row, k: x(*row, k), SUM, "row_sum")
    centred = te.compute(x.shape, lambda *i: x(*i) - total(*i[:-1]) / count, name="centred")
    squares = reduce_rows(
        rows, extent, lambda row, k: centred(*row, k) * centred(*row, k), SUM, "row_squares"
    )
    scale = te.compute(
        rows, lambda *i: tirx.rsqrt(squares(*i) / count + tirx.const(epsilon, x.dtype)), name="row_scale"
    )
    return te.compute(
        x.shape, lambda *i: centred(*i) * scale(*i[:-1]) * gamma(i[-1]) + beta(i[-1]), name="layer_norm"
    )


def rms_norm_rows(x: te.Tensor, gamma: te.Tensor, epsilon: float) -> te.Tensor:
    """Division by the root mean square over the last axis (Zhang and Sennrich, 2019).

    x [..., K], gamma [K].
    """
    *rows, extent = x.shape
    count = tirx.Cast(x.dtype, extent)
    squares = reduce_rows(rows, extent, lambda row, k: x(*row, k) * x(*row, k), SUM, "row_squares")
    scale = te.compute(
        rows, lambda *i: tirx.rsqrt(squares(*i) / count + tirx.const(epsilon, x.dtype)), name="row_scale"
    )
    return te.compute(x.shape, lambda *i: x(*i) * scale(*i[:-1]) * gamma(i[-1]), name="rms_norm")


def reduce_last_axis(x: te.Tensor, shape: Index, reducer: Reducer, mean: bool) -> te.Tensor:
    """A plain reduction over the last axis; with ``mean``, divided by its extent.

    ``shape``, of the result, is that of the rows, with or without axes of one element behind it.
    """
    *rows, extent = x.shape
    total = reduce_rows(rows, extent, lambda row, k: x(*row, k), reducer, "row_reduce")
    if not mean and len(shape) == len(rows):
        return total
    count = tirx.Cast(x.dtype, extent)

    def element(*index: tirx.Expr) -> tirx.Expr:
        value = total(*index[: len(rows)])
        return value / count if mean else value

    return te.compute(shape, element, name="row_mean" if mean else "row_keep")


def variance_last_axis(x: te.Tensor, shape: Index) -> te.Tensor:
    """The variance of the whole population along the last axis, from centred values, in ``shape``."""
    *rows, extent = x.shape
    count = tirx.Cast(x.dtype, extent)
    total = reduce_rows(rows, extent, lambda row, k: x(*row, k), SUM, "row_sum")
    mean = te.compute(rows, lambda *i: total(*i) / count, name="row_mean")

    def square(row: Index, k: tirx.Expr) -> tirx.Expr:
        centred = x(*row, k) - mean(*row)
        return centred * centred

    squares = reduce_rows(rows, extent, square, SUM, "row_squares")
    return te.compute(shape, lambda *i: squares(*i[: len(rows)]) / count, name="row_variance")
