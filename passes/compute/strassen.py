"""One level of Strassen's algorithm: seven products of matrices of half the extents in the place of eight.

Sums of the right-hand side's quadrants are made when compiling, as it is constant. A run adds up quadrants of
the left-hand side, and products.

Source: V. Strassen, Gaussian Elimination is not Optimal, Numerische Mathematik 13, 1969. The variant with the
fewest additions (Winograd's) would save no time here, and its sums of sums round more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te, tirx

from . import WORKLOAD

LEFT = np.array(
    [[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1]]
)
"""The left-hand sides of the seven products: factors of the quadrants, row by row."""
RIGHT = np.array(
    [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
)
"""The right-hand sides, likewise."""
RESULT = np.array(
    [[1, 0, 0, 1, -1, 0, 1], [0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0], [1, -1, 1, 0, 0, 1, 0]]
)
"""The quadrants of the result: factors of the products."""


def transform_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """The right-hand sides of the products in panels: [K, N] to [N / 2 / block, 7, K / 2, block].

    They are summed in float64.
    """
    K, N = weight.shape
    parts = weight.astype(np.float64).reshape(2, K // 2, 2, N // 2 // block, block).transpose(0, 2, 3, 1, 4)
    quadrants = parts.reshape(4, *parts.shape[2:])
    transformed = np.empty((N // 2 // block, len(RIGHT), K // 2, block), weight.dtype)
    for product, factors in enumerate(RIGHT):
        transformed[:, product] = sum(f * quadrants[q] for q, f in enumerate(factors) if f)
    return transformed


def strassen_matmul(x: te.Tensor, w: te.Tensor) -> te.Tensor:
    """x [..., M, K] times w, a [K, N] matrix as of ``transform_weight``; returns [..., M, N].

    M and K are even.
    """
    sums = _add_quadrants(x)
    *batch, count, M, K = sums.shape
    panels, _, _, lanes = w.shape
    k = te.reduce_axis((0, K), "k")

    def multiply(*index: tirx.Var) -> tirx.Expr:
        *outer, p, panel, m, lane = index
        return te.sum(sums(*outer, p, m, k) * w[panel, p, k, lane], axis=k)

    shape = (*batch, count, panels, M, lanes)
    attrs = {WORKLOAD: "strassen_matmul"}
    return _add_products(te.compute(shape, multiply, name="strassen_matmul", attrs=attrs))


def _add_quadrants(x: te.Tensor) -> te.Tensor:
    """The left-hand sides of the products: [..., 7, M / 2, K / 2]."""
    *batch, M, K = x.shape
    half_rows, half_depth = tirx.floordiv(M, 2), tirx.floordiv(K, 2)

    def add(*index: tirx.Var) -> tirx.Expr:
        *outer, p, m, k = index

        def quadrant(q: int) -> tirx.Expr:
            row, column = divmod(q, 2)
            return x(*outer, m + row * half_rows, k + column * half_depth)

        return _choose(p, [_sum(factors, quadrant) for factors in LEFT])

    return te.compute((*batch, len(LEFT), half_rows, half_depth), add, name="add_quadrants")


def _add_products(products: te.Tensor) -> te.Tensor:
    """From [..., 7, N / 2 / v, M / 2, v] to the result, [..., M, N]."""
    *batch, _, panels, half_rows, lanes = products.shape

    def add(*index: tirx.Var) -> tirx.Expr:
        *outer, row, m, column, panel, lane = index
        sums = [_sum(factors, lambda p: products(*outer, p, panel, m, lane)) for factors in RESULT]
        return _choose(row * 2 + column, sums)

    quadrants = te.compute((*batch, 2, half_rows, 2, panels, lanes), add, name="add_products")

    def join(*index: tirx.Var) -> tirx.Expr:
        *outer, m, n = index
        row, column = tirx.floordiv(m, half_rows), tirx.floordiv(n, panels * lanes)
        # With a remainder in the place of the difference, TVM would not see which panels a loop needs.
        panel = tirx.floordiv(n, lanes) - column * panels
        return quadrants(*outer, row, tirx.floormod(m, half_rows), column, panel, tirx.floormod(n, lanes))

    return te.compute((*batch, 2 * half_rows, 2 * panels * lanes), join, name="join_quadrants")


def _sum(factors: Sequence[int], term: Callable[[int], tirx.Expr]) -> tirx.Expr:
    """The terms with a factor of 1 added up, those with -1 subtracted."""
    first, *others = sorted(np.flatnonzero(factors).tolist(), key=lambda place: -factors[place])
    total = term(first)
    for place in others:
        total = total + term(place) if factors[place] > 0 else total - term(place)
    return total


def _choose(index: tirx.Expr, choices: Sequence[tirx.Expr]) -> tirx.Expr:
    """One of ``choices``; ``index`` is made of loop variables that schedules unroll."""
    chosen = choices[-1]
    for number in reversed(range(len(choices) - 1)):
        chosen = tirx.Select(index == number, choices[number], chosen)
    return chosen
