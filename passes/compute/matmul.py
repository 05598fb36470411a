"""Matrix multiplication whose right-hand side lies in panels."""

from __future__ import annotations

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD


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
