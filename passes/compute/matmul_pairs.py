"""Matrix multiplication of bfloat16 by dot products of pairs, added up in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD
from .matmul import (
    PANEL_SLACK,
    aligned,
    broadcast,
    folded,
    may_be_one_matrix,
    original,
    permuted,
    unfolded,
)
from .pairs import MATMUL_TILES, bits, is_new, join_pair, load_pair, pair_product, pair_start

KIND = "matmul_packed"
ROWS_OF_A_TASK = 256
"""What computes on tiles may overrun the last row by fewer."""


def step_depth(inner: tirx.Expr, depth: int) -> int:
    """``depth`` where a step of so many of ``inner`` elements can be taken: they are known, and enough."""
    return depth if isinstance(inner, tirx.IntImm) and int(inner) >= depth else 2


def _kind(depth: int) -> str:
    return KIND if depth == 2 else MATMUL_TILES


def _slack(depth: int) -> int:
    return TILE_SLACK if depth == 2 else ROWS_OF_A_TASK - 1


def matmul_packed_pairs(x: te.Tensor, w: te.Tensor, columns: int, depth: int = 2) -> te.Tensor:
    """x [..., M, K] times w, a [K, columns] matrix as pairs [columns/v, pairs, v]: [..., M, columns].

    ``depth`` is that of ``layout.pack_matmul_weight``. On tiles, several matrices are taken as one: its rows
    fill more tiles, and it meets every panel once.
    """
    panels, pairs, v = w.shape
    one = depth > 2 and may_be_one_matrix(x.shape, columns, int(v))
    *batch, rows = [math.prod(map(int, x.shape[:-1]))] if one else x.shape[:-1]
    k = te.reduce_axis((0, pairs), "k")

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, panel, lane = index
        row = tirx.min(m, rows - 1)
        place = unfolded(row, x.shape[:-1]) if one else [*outer, row]
        pair = load_pair(x, [*place, pair_start(k, int(x.shape[-1]), depth)])
        return te.sum(pair_product(pair, w[panel, k, lane]), axis=k)

    shape = (*batch, rows + _slack(depth), panels, v)
    acc = te.compute(shape, multiply, name="matmul_packed", attrs={WORKLOAD: _kind(depth)})
    return _crop(acc, (*x.shape[:-1], columns), int(v), one)


def matmul_batched_pairs(
    a: te.Tensor, b: te.Tensor, a_axes: Sequence[int], b_axes: Sequence[int], lanes: int, depth: int = 2
) -> te.Tensor:
    """The product of two activations; arguments and result as of ``matmul.matmul_batched``.

    Pairs come in steps of ``depth`` elements where the extents allow it.
    """
    (*a_batch, M, K), (*b_batch, _, N) = permuted(a.shape, a_axes), permuted(b.shape, b_axes)
    batch = broadcast(a_batch, b_batch)
    depth = step_depth(K, depth) if isinstance(N, tirx.IntImm) else 2
    panels = tirx.floordiv(N + lanes - 1, lanes)
    pairs = tirx.floordiv(K + depth - 1, depth) * (depth // 2)
    panel = _panel(b, b_axes, (K, N), lanes, depth)
    packed = te.compute((*b_batch, panels, pairs, lanes), panel, name="pack_panels")
    k = te.reduce_axis((0, pairs), "k")
    static = isinstance(panels, tirx.IntImm)

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, p, lane = index
        row = [*aligned(outer, a_batch), tirx.min(m, M - 1)]
        place = [*aligned(outer, b_batch), p if static else tirx.min(p, panels - 1), k, lane]
        return te.sum(pair_product(_row_pair(a, a_axes, row, (k, K), depth), packed(*place)), axis=k)

    overrun = 0 if static else PANEL_SLACK
    shape = (*batch, M + _slack(depth), panels + overrun, lanes)
    acc = te.compute(shape, multiply, name="matmul_batched", attrs={WORKLOAD: _kind(depth)})
    return _crop(acc, (*batch, M, N), lanes)


def _row_pair(
    a: te.Tensor, axes: Sequence[int], row: list[tirx.Expr], inner: tuple[tirx.Expr, tirx.Expr], depth: int
) -> tirx.Expr:
    """Pair k of a row of K. Where K is symbolic it may be odd: then nothing may be read behind the end."""
    k, K = inner
    if isinstance(K, tirx.IntImm):
        return load_pair(a, original([*row, pair_start(k, int(K), depth)], axes))
    first, second = (bits(a(*original([*row, 2 * k + i], axes))) for i in range(2))
    return join_pair(first, tirx.if_then_else(2 * k + 1 < K, second, tirx.const(0, "uint16")))


def _panel(
    b: te.Tensor, axes: Sequence[int], extents: tuple[tirx.Expr, tirx.Expr], lanes: int, depth: int
) -> Callable[..., tirx.Expr]:
    """How b, [..., K, N], lies in panels of pairs."""
    K, N = extents
    zero = tirx.const(0, "uint16")

    def panel(*index: tirx.Var) -> tirx.Expr:
        *outer, p, k, lane = index
        column = p * lanes + lane
        start = pair_start(k, int(K), depth) if isinstance(K, tirx.IntImm) else 2 * k
        pair = [bits(b(*original([*outer, start + i, column], axes))) for i in range(2)]
        if not isinstance(K, tirx.IntImm):
            pair[1] = tirx.if_then_else(2 * k + 1 < K, pair[1], zero)
        elif new := is_new(k, int(K), depth):
            pair = [tirx.if_then_else(lacking, half, zero) for lacking, half in zip(new, pair, strict=True)]
        return tirx.if_then_else(column < N, join_pair(*pair), tirx.const(0, "int32"))

    return panel


def _crop(acc: te.Tensor, shape: Sequence[tirx.Expr], lanes: int, one: bool = False) -> te.Tensor:
    """``acc`` without what goes beyond ``shape``; it is ``one`` matrix with the rows of all."""

    def crop(*index: tirx.Var) -> tirx.Expr:
        *row, n = index
        place = [folded(row, shape[:-1])] if one else row
        return acc(*place, tirx.floordiv(n, lanes), tirx.floormod(n, lanes))

    return te.compute(shape, crop, name="crop")
