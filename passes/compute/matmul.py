"""Matrix multiplication whose right-hand side lies in panels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD


def matmul_packed(x: te.Tensor, w: te.Tensor, columns: int) -> te.Tensor:
    """x [..., M, K] times w, a [K, columns] matrix packed as [columns/v, K, v]; returns [..., M, columns].

    All leading axes of x are rows: they are flattened, so that a tile may cross them.
    """
    *leading, K = x.shape
    panels, _, v = w.shape
    rows = reduce(lambda a, b: a * b, leading, tirx.const(1, "int64"))
    k = te.reduce_axis((0, K), "k")

    def multiply(m: tirx.Var, p: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        row = _unflatten(tirx.min(m, rows - 1), leading)
        return te.sum(x(*row, k) * w[p, k, lane], axis=k)

    acc = te.compute(
        (rows + TILE_SLACK, panels, v), multiply, name="matmul_packed", attrs={WORKLOAD: "matmul_packed"}
    )
    return te.compute(
        (*leading, columns),
        lambda *i: acc[_flatten(i[:-1], leading), tirx.floordiv(i[-1], v), tirx.floormod(i[-1], v)],
        name="crop",
    )


def _flatten(index: Sequence[tirx.Expr], extents: Sequence[tirx.Expr]) -> tirx.Expr:
    flat = tirx.const(0, "int64")
    for position, extent in zip(index, extents, strict=True):
        flat = flat * extent + position
    return flat


def _unflatten(flat: tirx.Expr, extents: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    index: list[tirx.Expr] = []
    for extent in reversed(extents[1:]):
        index.append(tirx.floormod(flat, extent))
        flat = tirx.floordiv(flat, extent)
    return [flat, *reversed(index)] if extents else []
