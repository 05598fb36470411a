"""Matrix multiplication whose right-hand side lies in panels."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD

PANEL_SLACK = 3
"""A tile may overrun a symbolic number of panels by so many."""


def matmul_packed(x: te.Tensor, w: te.Tensor, columns: int) -> te.Tensor:
    """x [..., M, K] times w, a [K, columns] matrix packed as [columns/v, K, v]; returns [..., M, columns]."""
    *batch, rows, K = x.shape
    panels, _, v = w.shape
    k = te.reduce_axis((0, K), "k")

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, panel, lane = index
        return te.sum(x(*outer, tirx.min(m, rows - 1), k) * w[panel, k, lane], axis=k)

    shape = (*batch, rows + TILE_SLACK, panels, v)
    acc = te.compute(shape, multiply, name="matmul_packed", attrs={WORKLOAD: "matmul_packed"})

    def crop(*index: tirx.Var) -> tirx.Expr:
        *row, n = index
        return acc(*row, tirx.floordiv(n, v), tirx.floormod(n, v))

    return te.compute((*batch, rows, columns), crop, name="crop")


def matmul_batched(
    a: te.Tensor, b: te.Tensor, a_axes: Sequence[int], b_axes: Sequence[int], lanes: int
) -> te.Tensor:
    """The product of two activations; the right-hand one is packed into panels on the way.

    Args:
        a: holds [..., M, K], its axes permuted.
        b: holds [..., K, N], its axes permuted. The leading axes of both broadcast.
        a_axes, b_axes: ``permute_dims(a, a_axes)`` is [..., M, K]; likewise for b.
        lanes: columns in a panel, a vector's lanes.

    Returns:
        [..., M, N].
    """
    (*a_batch, M, K), (*b_batch, _, N) = permuted(a.shape, a_axes), permuted(b.shape, b_axes)
    batch = broadcast(a_batch, b_batch)
    panels = tirx.floordiv(N + lanes - 1, lanes)

    def panel(*index: tirx.Var) -> tirx.Expr:
        *outer, p, k, lane = index
        column = p * lanes + lane
        value = b(*original([*outer, k, column], b_axes))
        return tirx.if_then_else(column < N, value, tirx.const(0, b.dtype))

    packed = te.compute((*b_batch, panels, K, lanes), panel, name="pack_panels")
    k = te.reduce_axis((0, K), "k")
    static = isinstance(panels, tirx.IntImm)

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, p, lane = index
        row = [*aligned(outer, a_batch), tirx.min(m, M - 1), k]
        place = [*aligned(outer, b_batch), p if static else tirx.min(p, panels - 1), k, lane]
        return te.sum(a(*original(row, a_axes)) * packed(*place), axis=k)

    overrun = 0 if static else PANEL_SLACK
    shape = (*batch, M + TILE_SLACK, panels + overrun, lanes)
    acc = te.compute(shape, multiply, name="matmul_batched", attrs={WORKLOAD: "matmul_packed"})

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
