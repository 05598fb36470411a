"""Convolution of an input with few channels, in bfloat16: pairs are neighbours in a row of the window.

Channels of a picture are too few for blocks. The plain layout NCHW has the window's columns side by side,
which is what dot products of pairs want; tiles want longer rows, so for them all channels of a column come
together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from tvm import te, tirx

from . import TILE_SLACK, WORKLOAD
from .conv2d import Conv2dGeometry
from .conv2d_tiles import ROW_PITCH
from .layout import pad_channels
from .pairs import (
    CONV2D_TILES,
    TILE_DEPTH,
    bits,
    interleave_pairs,
    load_pair,
    pair_product,
    pair_start,
)


def has_pairs_of_columns(weight: np.ndarray, geometry: Conv2dGeometry) -> bool:
    """Whether columns of a window, [O, C, R, S], can be multiplied in pairs."""
    return bool(weight.shape[3] > 1) and geometry.dilation[1] == 1


def choose_product(
    weight: np.ndarray, block: int, tiles: bool
) -> tuple[np.ndarray, Callable[..., te.Tensor]]:
    """``weight``, packed, and the definition that reads it; on tiles if these are wanted and fit."""
    if tiles and _fits_tile(weight):
        return pack_window_tiles(weight, block), partial(conv2d_window_tiles, columns=weight.shape[3])
    return pack_window_pairs(weight, block), partial(conv2d_window_pairs, columns=weight.shape[3])


def pack_window_pairs(weight: np.ndarray, block: int) -> np.ndarray:
    """[O, C, R, S] of bfloat16 to pairs of columns, [O/block, R, ceil(S/2), C, block]."""
    padded = pad_channels(weight, 0, block)
    O, C, R, S = padded.shape  # noqa: E741 - the layout's own letters
    return interleave_pairs(padded.reshape(O // block, block, C, R, S).transpose(0, 3, 4, 2, 1), 2)


def conv2d_window_pairs(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry, columns: int) -> te.Tensor:
    """x [N, C, H, W] in bfloat16 convolved with ``pack_window_pairs`` of a window with ``columns`` columns.

    Columns are not dilated. Returns [N, O/v, OH, OW, v].
    """
    Oo, R, _, C, v = w.shape
    N, OH, OW = x.shape[0], *geometry.output_extents(x.shape[2], x.shape[3], int(R), columns)
    padded = _padded(x, geometry)
    r, s, c = (te.reduce_axis((0, extent), name) for extent, name in ((R, "r"), (w.shape[2], "s"), (C, "c")))
    (stride_h, stride_w), (dilation_h, _) = geometry.strides, geometry.dilation

    def multiply(n: tirx.Var, o: tirx.Var, oh: tirx.Var, ow: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        row, column = oh * stride_h + r * dilation_h, tirx.min(ow, OW - 1) * stride_w + pair_start(s, columns)
        pair = load_pair(padded, [n, c, row, column])
        return te.sum(pair_product(pair, w[o, r, s, c, lane]), axis=[r, s, c])

    attributes = {WORKLOAD: "conv2d_nchwc"}
    acc = te.compute((N, Oo, OH, OW + TILE_SLACK, v), multiply, name="conv2d_nchwc", attrs=attributes)
    return te.compute((N, Oo, OH, OW, v), lambda *i: acc(*i), name="crop")


def _padded(x: te.Tensor, geometry: Conv2dGeometry) -> te.Tensor:
    top, left, bottom, right = geometry.padding
    N, C, H, W = x.shape

    def inside_or_zero(n: tirx.Var, c: tirx.Var, row: tirx.Var, column: tirx.Var) -> tirx.Expr:
        h, w = row - top, column - left
        inside = tirx.all(h >= 0, h < H, w >= 0, w < W)
        return tirx.if_then_else(inside, bits(x(n, c, h, w)), tirx.const(0, "uint16"))

    return te.compute((N, C, H + top + bottom, W + left + right), inside_or_zero, name="pad")


def _fits_tile(weight: np.ndarray) -> bool:
    """Whether a row of the window, with all of its channels, is part of a tile's row, or several of them."""
    elements = weight.shape[3] * _even(weight.shape[1])
    return bool(elements <= TILE_DEPTH or elements % TILE_DEPTH == 0)


def _even(channels: int) -> int:
    return channels + channels % 2


def pack_window_tiles(weight: np.ndarray, block: int) -> np.ndarray:
    """[O, C, R, S] of bfloat16 to pairs of channels, [O/block, R, S * ceil(C/2), block]."""
    padded = pad_channels(pad_channels(weight, 0, block), 1, 2)
    O, C, R, S = padded.shape  # noqa: E741 - the layout's own letters
    rows = padded.reshape(O // block, block, C, R, S).transpose(0, 3, 4, 2, 1).reshape(-1, R, S * C, block)
    return interleave_pairs(rows, 2)


def conv2d_window_tiles(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry, columns: int) -> te.Tensor:
    """x [N, C, H, W] in bfloat16 convolved with ``pack_window_tiles`` of a window with ``columns`` columns.

    Extents are known, and columns are not dilated. Returns [N, O/v, OH, OW, v].
    """
    Oo, R, pairs, v = w.shape
    N, OH, OW = x.shape[0], *map(int, geometry.output_extents(x.shape[2], x.shape[3], int(R), columns))
    channels = 2 * int(pairs) // columns
    together = _channels_together(x, geometry, channels)
    r, k = te.reduce_axis((0, R), "r"), te.reduce_axis((0, pairs), "k")

    def multiply(n: tirx.Var, o: tirx.Var, place: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        row = tirx.floordiv(place, OW) * geometry.strides[0] + r * geometry.dilation[0]
        column = tirx.floormod(place, OW) * geometry.strides[1] + tirx.floordiv(2 * k, channels)
        pair = load_pair(together, [n, row, column, tirx.floormod(2 * k, channels)])
        return te.sum(pair_product(pair, w[o, r, k, lane]), axis=[r, k])

    attributes = {WORKLOAD: CONV2D_TILES, ROW_PITCH: 0}
    acc = te.compute((N, Oo, OH * OW, v), multiply, name="conv2d_tiles", attrs=attributes)
    shape = (N, Oo, OH, OW, v)
    return te.compute(shape, lambda n, o, h, w, lane: acc(n, o, h * OW + w, lane), name="crop")


def _channels_together(x: te.Tensor, geometry: Conv2dGeometry, channels: int) -> te.Tensor:
    """x, padded: [N, H', W', channels], the bits."""
    top, left, bottom, right = geometry.padding
    N, C, H, W = x.shape
    padded = _padded(x, geometry)

    def together(n: tirx.Var, h: tirx.Var, w: tirx.Var, c: tirx.Var) -> tirx.Expr:
        return tirx.if_then_else(c < C, padded(n, c, h, w), tirx.const(0, "uint16"))

    shape = (N, H + top + bottom, W + left + right, channels)
    return te.compute(shape, together, name="channels_together")
