"""Winograd's minimal filtering F(m x m, 3 x 3) on blocked layouts.

An output tile of m x m comes from an input tile of (m + 2) x (m + 2) by (m + 2)^2 multiplications for each
pair of channels, where direct convolution needs 9 m^2: Y = A^T [(G g G^T) * (B^T d B)] A. The products of all
channels and of many tiles are one matrix multiplication for each of the (m + 2)^2 positions.

Source: A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; the matrices are
made by the Cook-Toom construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from tvm import te, tirx

from . import WORKLOAD
from .conv2d import Conv2dGeometry

WINDOW = 3
"""Taps of the filter along each axis."""

POINTS = {
    4: (0, Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
    6: (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2)),
}
"""Where the polynomials are evaluated, besides infinity, by the extent of an output tile: the pairs p, -p
(which share work) of simple fractions that gave the least errors. With 64 channels the root mean square of
errors was 8e-7 of the results' for tiles of 4 (1.6e-6 with the usual 1 and 2) and 3e-6 for tiles of 6."""


@dataclass(frozen=True)
class WinogradMatrices:
    """The matrices of F(m, 3) in one dimension: y = output [(filter g) * (input d)].

    Attributes:
        input: B^T, [m + 2, m + 2].
        filter: G, [m + 2, 3].
        output: A^T, [m, m + 2].
    """

    input: np.ndarray
    filter: np.ndarray
    output: np.ndarray


@cache
def winograd_matrices(tile: int) -> WinogradMatrices:
    """The matrices for output tiles of ``tile``, in float64 and exact but for G."""
    points = [Fraction(point) for point in POINTS[tile]]
    full = _product(points)
    input_rows = [[*_product([q for q in points if q != p]), Fraction(0)] for p in points] + [full]
    norms = [_at(row, p) for row, p in zip(input_rows, points, strict=False)]
    filter_rows = [[p**k / norm for k in range(WINDOW)] for p, norm in zip(points, norms, strict=True)]
    filter_rows.append([Fraction(k == WINDOW - 1) for k in range(WINDOW)])
    columns = [[p**k for k in range(tile)] for p in points] + [[Fraction(k == tile - 1) for k in range(tile)]]
    return WinogradMatrices(_array(input_rows), _array(filter_rows), _array(columns).T)


def _array(rows: Sequence[Sequence[Fraction]]) -> np.ndarray:
    return np.array([[float(x) for x in row] for row in rows])


def _product(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the monic polynomial with these roots, lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(c * root for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _at(coefficients: Sequence[Fraction], x: Fraction) -> Fraction:
    return sum((c * x**k for k, c in enumerate(coefficients)), Fraction(0))


def transform_filters(filters: np.ndarray, tile: int) -> np.ndarray:
    """G g G^T in float64: [O/v, 3, 3, I, v] to [O/v, (tile + 2)^2, I, v] of the same type."""
    G = winograd_matrices(tile).filter
    transformed = np.einsum("ir,orscv,js->oijcv", G, filters.astype(np.float64), G)
    blocks, size, _, channels, lanes = transformed.shape
    packed = transformed.reshape(blocks, size * size, channels, lanes)
    return np.asarray(packed, filters.dtype)


@dataclass(frozen=True)
class Tiling:
    """How the output is cut.

    Attributes:
        tile: m, the extent of an output tile.
        count: tiles in a block, which are the rows of one matrix multiplication. Blocks take the tiles of a
            map as they come, row after row.
    """

    tile: int
    count: int


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a map of ``height`` x ``width``, in blocks."""

    tiling: Tiling
    height: tirx.Expr
    width: tirx.Expr

    @property
    def columns(self) -> tirx.Expr:
        """Tiles in a row."""
        return tirx.truncdiv(self.width + (self.tiling.tile - 1), self.tiling.tile)

    @property
    def blocks(self) -> tirx.Expr:
        """The last one may have tiles behind the end of the map."""
        return _ceil_div(self.tiles, self.tiling.count)

    @property
    def tiles(self) -> tirx.Expr:
        """Of the map."""
        return _ceil_div(self.height, self.tiling.tile) * self.columns

    def corner(self, block: tirx.Expr, place: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """The first row and column of the output that the tile at a place of a block computes."""
        number, m = block * self.tiling.count + place, self.tiling.tile
        # Truncating: TVM would look long for a proof that a symbolic quotient needs no rounding down.
        return tirx.truncdiv(number, self.columns) * m, tirx.truncmod(number, self.columns) * m

    def tile_of(self, h: tirx.Expr, w: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """The block, and the place in it, of the tile that computes an element of the output."""
        m, count = self.tiling.tile, self.tiling.count
        number = tirx.floordiv(h, m) * self.columns + tirx.floordiv(w, m)
        return _unanalysed(tirx.floordiv(number, count)), tirx.floormod(number, count)


def winograd_conv2d_nchwc(
    x: te.Tensor, u: te.Tensor, tiling: Tiling, padding: tuple[int, int, int, int]
) -> te.Tensor:
    """Convolution with a window of 3 x 3, strides and dilations of 1, one group.

    Args:
        x: [N, ceil(C / b), H, W, b].
        u: the transformed filters, [O/v, (m + 2)^2, C, v].
        tiling: the tiles.
        padding: (top, left, bottom, right).

    Returns:
        [N, O/v, OH, OW, v].
    """
    geometry = Conv2dGeometry((1, 1), padding, (1, 1), 1)
    grid = TileGrid(tiling, *geometry.output_extents(x.shape[2], x.shape[3], WINDOW, WINDOW))
    transformed = _transform_input(x, grid, padding)
    return _transform_output(_multiply(transformed, u), grid)


def _transform_input(x: te.Tensor, grid: TileGrid, padding: tuple[int, int, int, int]) -> te.Tensor:
    """B^T d B of all tiles: [N, blocks, m + 2, m + 2, C/b, tiles in a block, b]."""
    tiling, size = grid.tiling, grid.tiling.tile + WINDOW - 1
    N, Cb, H, W, b = x.shape
    recipe = _recipe(winograd_matrices(tiling.tile).input)
    top, left, bottom, right = padding
    # An empty map has nothing to read, but with so much padding it has results.
    margins = ((H, top + bottom), (W, left + right))
    filled = [extent > 0 for extent, margin in margins if margin >= WINDOW]

    def pixel(*index: tirx.Var) -> tirx.Expr:
        n, block, c, t, r, s, lane = index
        first_h, first_w = grid.corner(block, t)
        h, w = first_h + r - top, first_w + s - left
        near_h, near_w = tirx.max(tirx.min(h, H - 1), 0), tirx.max(tirx.min(w, W - 1), 0)
        # Compared in this way, TVM does not take the clamping out: a Select reads whatever it then chooses.
        inside, zero = tirx.all(near_h == h, near_w == w), tirx.const(0, x.dtype)
        nearest = tirx.Select(inside, x(n, c, near_h, near_w, lane), zero)
        return tirx.if_then_else(tirx.all(*filled), nearest, zero) if filled else nearest

    shape = (N, grid.blocks, Cb, tiling.count, size, size, b)
    tiles = te.compute(shape, pixel, name="input_tiles")

    def columns(*index: tirx.Var) -> tirx.Expr:
        n, block, c, t, i, s, lane = index
        return recipe(i, lambda r: tiles(n, block, c, t, r, s, lane))

    half = te.compute(shape, columns, name="transform_columns")

    def rows(*index: tirx.Var) -> tirx.Expr:
        n, block, i, j, c, t, lane = index
        return recipe(j, lambda s: half(n, block, c, t, i, s, lane))

    shape = (N, grid.blocks, size, size, Cb, tiling.count, b)
    return te.compute(shape, rows, name="transform_input")


def _multiply(v: te.Tensor, u: te.Tensor) -> te.Tensor:
    """[N, O/v, blocks, m + 2, m + 2, tiles in a block, v]."""
    N, blocks, size, _, _, tiles, b = v.shape
    Oo, _, C, lanes = u.shape
    c = te.reduce_axis((0, C), "c")

    def multiply(*index: tirx.Var) -> tirx.Expr:
        n, o, block, i, j, t, lane = index
        source = v[n, block, i, j, tirx.floordiv(c, b), t, tirx.floormod(c, b)]
        return te.sum(source * u[o, i * size + j, c, lane], axis=c)

    return te.compute(
        (N, Oo, blocks, size, size, tiles, lanes),
        multiply,
        name="winograd_conv2d",
        attrs={WORKLOAD: "winograd_conv2d"},
    )


def _transform_output(products: te.Tensor, grid: TileGrid) -> te.Tensor:
    m = grid.tiling.tile
    N, Oo, blocks, size, _, tiles, lanes = products.shape
    recipe = _recipe(winograd_matrices(m).output)

    def columns(*index: tirx.Var) -> tirx.Expr:
        n, o, block, a, j, t, lane = index
        return recipe(a, lambda i: products(n, o, block, i, j, t, lane))

    shape = (N, Oo, blocks, m, size, tiles, lanes)
    half = te.compute(shape, columns, name="transform_product_columns")

    def rows(*index: tirx.Var) -> tirx.Expr:
        n, o, block, t, a, b, lane = index
        return recipe(b, lambda j: half(n, o, block, a, j, t, lane))

    acc = te.compute((N, Oo, blocks, tiles, m, m, lanes), rows, name="transform_output")

    def crop(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        return acc(n, o, *grid.tile_of(h, w), tirx.floormod(h, m), tirx.floormod(w, m), lane)

    return te.compute((N, Oo, grid.height, grid.width, lanes), crop, name="crop")


def _unanalysed(index: tirx.Expr) -> tirx.Expr:
    """``index``, so that TVM takes for granted that it lies in the buffer.

    Of what it can analyse it wants to prove that, and fails if a symbolic extent is a factor.
    """
    return tirx.bitwise_and(index, tirx.const(-1, index.ty.dtype))


def _ceil_div(extent: tirx.Expr, divisor: int) -> tirx.Expr:
    return tirx.floordiv(extent - 1, divisor) + 1


Term = Callable[[int], tirx.Expr]
Recipe = Callable[[tirx.Expr, Term], tirx.Expr]


def _recipe(matrix: np.ndarray) -> Recipe:
    """``matrix`` times a vector: a function from a row's index and a vector's terms to that row's element.

    The index is a loop variable that schedules unroll: what is written here as a choice of rows becomes one
    row. What rows share is spelled alike so that LLVM sees it.
    """
    write = _row_of_pairs if _has_paired_columns(matrix) else _row
    return lambda index, term: _choose(index, [write(row, term) for row in matrix])


def _has_paired_columns(matrix: np.ndarray) -> bool:
    """Whether the columns of points p and -p, from the second one on, differ in signs only: in A^T."""
    first, second = matrix[:, 1:-1:2], matrix[:, 2:-1:2]
    return np.array_equal(np.abs(first), np.abs(second))


def _row_of_pairs(row: np.ndarray, term: Term) -> tirx.Expr:
    """A row's element by the sums, or the differences, of the terms for p and -p, which other rows share."""
    total: tirx.Expr | None = None
    for k in range(1, len(row) - 1, 2):
        pair = term(k) + term(k + 1) if row[k] == row[k + 1] else term(k) - term(k + 1)
        product = _scaled(float(row[k]), pair)
        total = product if total is None else total + product
    assert total is not None
    for k in (0, len(row) - 1):
        total = total + _scaled(float(row[k]), term(k)) if row[k] else total
    return total


def _row(row: np.ndarray, term: Term) -> tirx.Expr:
    """A row's element by its even and its odd part: two rows for points p and -p share these."""
    parts = [part for part in (_sum(row, 0, term), _sum(row, 1, term)) if part is not None]
    if len(parts) == 1:
        return parts[0][1] if parts[0][0] > 0 else -parts[0][1]
    (sign_even, even), (sign_odd, odd) = parts
    if sign_even < 0:
        return odd - even if sign_odd > 0 else -(even + odd)
    return even + odd if sign_odd > 0 else even - odd


def _sum(row: np.ndarray, parity: int, term: Term) -> tuple[int, tirx.Expr] | None:
    """The sum over every other place, and the sign taken out of it: the last coefficient's."""
    places = [k for k in range(parity, len(row), 2) if row[k]]
    if not places:
        return None
    sign = 1 if row[places[-1]] > 0 else -1
    total: tirx.Expr | None = None
    for k in reversed(places):
        product = _scaled(float(row[k]) * sign, term(k))
        total = product if total is None else total + product
    return sign, total


def _scaled(factor: float, value: tirx.Expr) -> tirx.Expr:
    return value if factor == 1 else value * tirx.const(factor, value.ty.dtype)


def _choose(index: tirx.Expr, choices: Sequence[tirx.Expr]) -> tirx.Expr:
    chosen = choices[-1]
    for number in reversed(range(len(choices) - 1)):
        chosen = tirx.Select(index == number, choices[number], chosen)
    return chosen
