"""Matrix multiplication whose right-hand side lies in panels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import te, tirx

from . import NARROW_LANES, TILE_SLACK, WORKLOAD
from .half_sums import HALF_SUMS, terms_of
from .widening import widen, widened

PANEL_SLACK = 3
"""A tile may overrun a symbolic number of panels by so many."""


def matmul_packed(x: te.Tensor, w: te.Tensor, columns: int, half_terms: int = 1) -> te.Tensor:
    """x [..., M, K] times w, a [K, columns] matrix packed as [columns/v, K, v]; returns [..., M, columns].

    Up to ``half_terms`` products of float16 are summed in float16 before they go to the float32 sum.
    """
    *batch, rows, K = x.shape
    panels, _, v = w.shape
    terms = terms_of(K, half_terms)
    x = widened(x) if terms is None else x
    flat = _is_one_matrix(x, columns, int(v))
    matrix = [math.prod(map(int, (*batch, rows)))] if flat else [*batch, rows]

    def product(index: Sequence[tirx.Expr], k: tirx.Expr) -> tirx.Expr:
        *outer, m, panel, lane = index
        row = [*outer, tirx.min(m, matrix[-1] - 1)]
        weight = w(panel, k, lane)
        value = x(*(unfolded(row[0], x.shape[:-1]) if flat else row), k)
        return value * (widen(weight) if terms is None else weight)

    acc = _sums((*matrix[:-1], matrix[-1] + TILE_SLACK, panels, v), K, product, terms, "matmul_packed")

    def crop(*index: tirx.Var) -> tirx.Expr:
        *row, n = index
        place = [folded(row, x.shape[:-1])] if flat else row
        return acc(*place, tirx.floordiv(n, v), tirx.floormod(n, v))

    return te.compute((*batch, rows, columns), crop, name="crop")


def _is_one_matrix(x: te.Tensor, columns: int, lanes: int) -> bool:
    """Whether all rows of x are taken as those of one matrix: a tile may go from one matrix to the next.

    Where vectors are wide, register tiles are high, and rows of common pictures fill them. With guards on the
    columns as well, TVM would lose sight of what a tile writes.
    """
    return lanes <= NARROW_LANES and may_be_one_matrix(x.shape, columns, lanes)


def may_be_one_matrix(shape: Sequence[tirx.Expr], columns: int, lanes: int) -> bool:
    """Whether [..., M, K] are several matrices, their extents known, times panels that are all full."""
    *batch, rows, _ = shape
    static = all(isinstance(extent, tirx.IntImm) for extent in (*batch, rows))
    return static and columns % lanes == 0 and math.prod(map(int, batch)) > 1


def folded(index: Sequence[tirx.Expr], extents: Sequence[tirx.Expr]) -> tirx.Expr:
    """The number of a place, the last axis counted first."""
    place = index[0]
    for axis, extent in zip(index[1:], extents[1:], strict=True):
        place = place * extent + axis
    return place


def unfolded(place: tirx.Expr, extents: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    """The inverse of ``folded``."""
    index = []
    for extent in reversed(extents[1:]):
        index.append(tirx.floormod(place, extent))
        place = tirx.floordiv(place, extent)
    return [place, *reversed(index)]


def _sums(
    shape: Sequence[tirx.Expr | int],
    K: tirx.Expr,
    product: Callable[[Sequence[tirx.Expr], tirx.Expr], tirx.Expr],
    terms: int | None,
    name: str,
) -> te.Tensor:
    """``product(index, k)`` summed over K; ``terms`` at a time in float16 first, if given."""
    attributes = {WORKLOAD: "matmul_packed"}
    if terms is None:
        k = te.reduce_axis((0, K), "k")
        return te.compute(shape, lambda *i: te.sum(product(i, k), axis=k), name=name, attrs=attributes)
    step, term = te.reduce_axis((0, int(K) // terms), "k"), te.reduce_axis((0, terms), "term")
    sums = te.compute(
        (*shape, step.dom.extent),
        lambda *i: te.sum(product(i[:-1], i[-1] * terms + term), axis=term),
        name=HALF_SUMS,
    )
    return te.compute(shape, lambda *i: te.sum(widen(sums(*i, step)), axis=step), name=name, attrs=attributes)


def matmul_batched(
    a: te.Tensor,
    b: te.Tensor,
    a_axes: Sequence[int],
    b_axes: Sequence[int],
    lanes: int,
    half_terms: int = 1,
) -> te.Tensor:
    """The product of two activations; the right-hand one is packed into panels on the way.

    Args:
        a: holds [..., M, K], its axes permuted.
        b: holds [..., K, N], its axes permuted. The leading axes of both broadcast.
        a_axes, b_axes: ``permute_dims(a, a_axes)`` is [..., M, K]; likewise for b.
        lanes: columns in a panel, a vector's lanes.
        half_terms: as of ``matmul_packed``.

    Returns:
        [..., M, N].
    """
    (*a_batch, M, K), (*b_batch, _, N) = permuted(a.shape, a_axes), permuted(b.shape, b_axes)
    batch = broadcast(a_batch, b_batch)
    panels = tirx.floordiv(N + lanes - 1, lanes)
    terms = terms_of(K, half_terms)
    a = widened(a) if terms is None else a

    def panel(*index: tirx.Var) -> tirx.Expr:
        *outer, p, k, lane = index
        column = p * lanes + lane
        value = b(*original([*outer, k, column], b_axes))
        value = widen(value) if terms is None else value
        return tirx.if_then_else(column < N, value, tirx.const(0, value.ty.dtype))

    packed = te.compute((*b_batch, panels, K, lanes), panel, name="pack_panels")
    static = isinstance(panels, tirx.IntImm)

    def product(index: Sequence[tirx.Expr], k: tirx.Expr) -> tirx.Expr:
        *outer, m, p, lane = index
        row = [*aligned(outer, a_batch), tirx.min(m, M - 1), k]
        place = [*aligned(outer, b_batch), p if static else tirx.min(p, panels - 1), k, lane]
        return a(*original(row, a_axes)) * packed(*place)

    overrun = 0 if static else PANEL_SLACK
    shape = (*batch, M + TILE_SLACK, panels + overrun, lanes)
    acc = _sums(shape, K, product, terms, "matmul_batched")

    def crop(*index: tirx.Var) -> tirx.Expr:
        *row, n = index
        return acc(*row, tirx.floordiv(n, lanes), tirx.floormod(n, lanes))

    return te.compute((*batch, M, N), crop, name="crop")


def permuted(items: Sequence[tirx.Expr], axes: Sequence[int]) -> list[tirx.Expr]:
    return [items[axis] for axis in axes]


def original(index: Sequence[tirx.Expr], axes: Sequence[int]) -> list[tirx.Expr]:
    """The index before ``axes`` permuted it."""
    return [index[axes.index(axis)] for axis in range(len(axes))]


def broadcast(a: Sequence[tirx.Expr], b: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    longest = max(len(a), len(b))
    pairs = zip([1] * (longest - len(a)) + list(a), [1] * (longest - len(b)) + list(b), strict=True)
    return [y if _is_one(x) else x for x, y in pairs]


def aligned(index: Sequence[tirx.Expr], extents: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    """Where the result's ``index`` finds an operand whose leading axes have these extents."""
    tail = index[len(index) - len(extents) :]
    return [0 if _is_one(extent) else place for place, extent in zip(tail, extents, strict=True)]


def _is_one(extent: tirx.Expr | int) -> bool:
    return isinstance(extent, int | tirx.IntImm) and int(extent) == 1
