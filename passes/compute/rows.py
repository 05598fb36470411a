"""Reductions of rows, softmax and normalisation over the innermost axes.

A row is reduced into ``ROW_LANES`` partial results side by side, which vectors can hold; what is left over at
its end is reduced by itself. So no vector needs a guard, for any extent, a symbolic one too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import te, tirx

ROW_LANES = 16

Index = Sequence[tirx.Expr]
Load = Callable[[Index, tirx.Expr], tirx.Expr]


@dataclass(frozen=True)
class Reducer:
    """How the elements of a row combine: a TE reduction, and the same for two values."""

    reduce: Callable[..., tirx.Expr]
    combine: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


SUM = Reducer(te.sum, lambda a, b: a + b)
MAX = Reducer(te.max, tirx.max)
MIN = Reducer(te.min, tirx.min)


def reduce_rows(rows: Index, extent: tirx.Expr, load: Load, reducer: Reducer, name: str) -> te.Tensor:
    """Reduces ``load(row, k)`` over k < ``extent`` for every row; returns a tensor of shape ``rows``."""
    whole = tirx.floordiv(extent, ROW_LANES)
    rest = extent - whole * ROW_LANES
    if _known(whole) == 0:
        return _tail(rows, rest, 0, load, reducer, name)
    vectors = te.reduce_axis((0, whole), "vector")
    partial = te.compute(
        (*rows, ROW_LANES),
        lambda *i: reducer.reduce(load(i[:-1], vectors * ROW_LANES + i[-1]), axis=vectors),
        name=f"{name}_partial",
    )
    lane = te.reduce_axis((0, ROW_LANES), "lane")
    total = te.compute(rows, lambda *i: reducer.reduce(partial(*i, lane), axis=lane), name=f"{name}_total")
    if _known(rest) == 0:
        return total
    tail = _tail(rows, rest, whole * ROW_LANES, load, reducer, f"{name}_tail")
    return te.compute(rows, lambda *i: reducer.combine(total(*i), tail(*i)), name=name)


def _tail(
    rows: Index, extent: tirx.Expr, start: tirx.Expr | int, load: Load, reducer: Reducer, name: str
) -> te.Tensor:
    k = te.reduce_axis((0, extent), "k")
    return te.compute(rows, lambda *i: reducer.reduce(load(i, start + k), axis=k), name=name)


def _known(extent: tirx.Expr | int) -> int | None:
    return int(extent) if isinstance(extent, int | tirx.IntImm) else None


def softmax_rows(x: te.Tensor) -> te.Tensor:
    """Softmax over the last axis."""
    *rows, extent = x.shape
    largest = reduce_rows(rows, extent, lambda row, k: x(*row, k), MAX, "row_max")
    exp = te.compute(x.shape, lambda *i: tirx.exp(x(*i) - largest(*i[:-1])), name="row_exp")
    total = reduce_rows(rows, extent, lambda row, k: exp(*row, k), SUM, "row_sum")
    return te.compute(x.shape, lambda *i: exp(*i) / total(*i[:-1]), name="softmax")


def log_softmax_rows(x: te.Tensor) -> te.Tensor:
    """Logarithm of the softmax over the last axis."""
    *rows, extent = x.shape
    largest = reduce_rows(rows, extent, lambda row, k: x(*row, k), MAX, "row_max")
    total = reduce_rows(rows, extent, lambda row, k: tirx.exp(x(*row, k) - largest(*row)), SUM, "row_sum")
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


def reduce_last_axis(x: te.Tensor, reducer: Reducer, keepdims: bool, mean: bool) -> te.Tensor:
    """A plain reduction over the last axis; with ``mean``, divided by its extent."""
    *rows, extent = x.shape
    total = reduce_rows(rows, extent, lambda row, k: x(*row, k), reducer, "row_reduce")
    shape = (*rows, 1) if keepdims else tuple(rows)
    if not mean and not keepdims:
        return total
    count = tirx.Cast(x.dtype, extent)
    return te.compute(
        shape,
        lambda *i: total(*i[: len(rows)]) / count if mean else total(*i[: len(rows)]),
        name="row_mean" if mean else "row_keep",
    )
