"""Matrix multiplication of bfloat16 by dot products of pairs, added up in float32."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD
from .matmul import PANEL_SLACK, aligned, broadcast, original, permuted
from .pairs import bits, join_pair, load_pair, pair_product, pair_start

KIND = "matmul_packed"


def matmul_packed_pairs(x: te.Tensor, w: te.Tensor, columns: int) -> te.Tensor:
    """x [..., M, K] times w, a [K, columns] matrix as pairs [columns/v, ceil(K/2), v]: [..., M, columns]."""
    *batch, rows, K = x.shape
    panels, pairs, v = w.shape
    k = te.reduce_axis((0, pairs), "k")

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, panel, lane = index
        pair = load_pair(x, [*outer, tirx.min(m, rows - 1), pair_start(k, int(K))])
        return te.sum(pair_product(pair, w[panel, k, lane]), axis=k)

    shape = (*batch, rows + TILE_SLACK, panels, v)
    acc = te.compute(shape, multiply, name="matmul_packed", attrs={WORKLOAD: KIND})
    return _crop(acc, (*batch, rows, columns), int(v))


def matmul_batched_pairs(
    a: te.Tensor, b: te.Tensor, a_axes: Sequence[int], b_axes: Sequence[int], lanes: int
) -> te.Tensor:
    """The product of two activations; arguments and result as of ``matmul.matmul_batched``."""
    (*a_batch, M, K), (*b_batch, _, N) = permuted(a.shape, a_axes), permuted(b.shape, b_axes)
    batch = broadcast(a_batch, b_batch)
    panels = tirx.floordiv(N + lanes - 1, lanes)
    pairs = tirx.floordiv(K + 1, 2)
    packed = te.compute((*b_batch, panels, pairs, lanes), _panel(b, b_axes, K, N, lanes), name="pack_panels")
    k = te.reduce_axis((0, pairs), "k")
    static = isinstance(panels, tirx.IntImm)

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, m, p, lane = index
        row = [*aligned(outer, a_batch), tirx.min(m, M - 1)]
        place = [*aligned(outer, b_batch), p if static else tirx.min(p, panels - 1), k, lane]
        return te.sum(pair_product(_row_pair(a, a_axes, row, k, K), packed(*place)), axis=k)

    overrun = 0 if static else PANEL_SLACK
    shape = (*batch, M + TILE_SLACK, panels + overrun, lanes)
    acc = te.compute(shape, multiply, name="matmul_batched", attrs={WORKLOAD: KIND})
    return _crop(acc, (*batch, M, N), lanes)


def _row_pair(
    a: te.Tensor, axes: Sequence[int], row: list[tirx.Expr], k: tirx.Expr, K: tirx.Expr
) -> tirx.Expr:
    """Pair ``k`` of a row. Where K is symbolic it may be odd, and then nothing may be read behind the end."""
    if isinstance(K, tirx.IntImm):
        return load_pair(a, original([*row, pair_start(k, int(K))], axes))
    first, second = (bits(a(*original([*row, 2 * k + i], axes))) for i in range(2))
    return join_pair(first, tirx.if_then_else(2 * k + 1 < K, second, tirx.const(0, "uint16")))


def _panel(b: te.Tensor, axes: Sequence[int], K: tirx.Expr, N: tirx.Expr, lanes: int):  # type: ignore[no-untyped-def]
    zero = tirx.const(0, "uint16")

    def panel(*index: tirx.Var) -> tirx.Expr:
        *outer, p, k, lane = index
        column = p * lanes + lane
        start = pair_start(k, int(K)) if isinstance(K, tirx.IntImm) else 2 * k
        first, second = (bits(b(*original([*outer, start + i, column], axes))) for i in range(2))
        if not isinstance(K, tirx.IntImm):
            second = tirx.if_then_else(2 * k + 1 < K, second, zero)
        elif int(K) % 2:
            first = tirx.if_then_else(start == 2 * k, first, zero)
        return tirx.if_then_else(column < N, join_pair(first, second), tirx.const(0, "int32"))

    return panel


def _crop(acc: te.Tensor, shape: Sequence[tirx.Expr], lanes: int) -> te.Tensor:
    def crop(*index: tirx.Var) -> tirx.Expr:
        *row, n = index
        return acc(*row, tirx.floordiv(n, lanes), tirx.floormod(n, lanes))

    return te.compute(shape, crop, name="crop")
