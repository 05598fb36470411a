"""Two-dimensional convolution by matrix tiles, whose rows are positions of the result.

A tile's rows lie at equal distances in memory, so they cannot skip the edge of a padded map. They run over
it: the result gets as many positions in a row as the padded map has, and those on the edge are left out at
the end. So narrow maps fill tiles, too. A strided convolution reads a copy that is split by phases: in each
of them, neighbouring results have neighbouring operands.
"""

from __future__ import annotations

import numpy as np
from tvm import relax, te, tirx

from . import WORKLOAD
from .conv2d import Conv2dGeometry
from .layout import pack_conv2d_weight
from .pairs import CONV2D_TILES, TILE_DEPTH, TILE_ROWS, bits, load_pair, pair_product

ROW_PITCH = "relaxc.row_pitch"
"""Positions from one row of a result to the next; 0 if tiles must not go from row to row."""


def has_known_extents(x: relax.Expr) -> bool:
    """Whether the height and width of a feature map are numbers."""
    return all(isinstance(extent, tirx.IntImm) for extent in list(x.ty.shape)[2:4])


def pack_tile_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """[O, I, R, S] of bfloat16 to pairs (``pairs.py``), zeros added: [O/block, I/32, R, S, 16, block]."""
    packed = pack_conv2d_weight(weight, block, TILE_DEPTH)
    panels, R, S, pairs, lanes = packed.shape
    steps = packed.reshape(panels, R, S, pairs // TILE_ROWS, TILE_ROWS, lanes)
    return np.ascontiguousarray(steps.transpose(0, 3, 1, 2, 4, 5))


def conv2d_tiles(
    x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry, channels: int, clear: bool = False
) -> te.Tensor:
    """Convolution of bfloat16 in one group, its extents known.

    Args:
        x: [N, C/32, H, W, 32].
        w: as of ``pack_tile_weight``.
        geometry: strides, padding, dilation.
        channels: of x, but for the idle lanes of its last block. They are multiplied by zero.
        clear: whether the idle lanes may hold infinities, or no numbers at all.

    Returns:
        [N, O/v, OH, OW, v].
    """
    Oo, blocks, R, S, pairs, v = w.shape
    positions = _Positions(x, geometry, (int(R), int(S)), channels, clear)
    OH, OW, pitch = positions.height, positions.width, positions.pitch
    # The window inside: so what its places share is still in the first-level cache.
    extents = {"block": blocks, "r": R, "s": S, "c": pairs}
    block, r, s, c = axes = [te.reduce_axis((0, extent), name) for name, extent in extents.items()]

    def multiply(n: tirx.Var, o: tirx.Var, place: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        pair = load_pair(positions.source, [n, block, *positions.operand(place, r, s), 2 * c])
        return te.sum(pair_product(pair, w[o, block, r, s, c, lane]), axis=axes)

    attributes = {WORKLOAD: CONV2D_TILES, ROW_PITCH: pitch if positions.may_wrap else 0}
    places = (OH - 1) * pitch + OW
    acc = te.compute((x.shape[0], Oo, places, v), multiply, name="conv2d_tiles", attrs=attributes)
    shape = (x.shape[0], Oo, OH, OW, v)
    return te.compute(shape, lambda n, o, h, w, lane: acc(n, o, h * pitch + w, lane), name="crop")


class _Positions:
    """Where the operands of each position of a result lie.

    Attributes:
        source: x itself, [N, C/b, H, W, b], or a padded copy by phases, [N, C/b, phases, H', W', b].
        height, width: of the result.
        pitch: positions from one of its rows to the next.
        may_wrap: whether neighbouring positions have neighbouring operands across the ends of rows, too.
    """

    def __init__(
        self, x: te.Tensor, geometry: Conv2dGeometry, window: tuple[int, int], channels: int, clear: bool
    ) -> None:
        self.channels = channels
        self.strides, self.dilation = geometry.strides, geometry.dilation
        H, W = (int(extent) for extent in x.shape[2:4])
        self.height, self.width = map(int, geometry.output_extents(x.shape[2], x.shape[3], *window))
        self.may_wrap = self.strides == (1, 1) or not _rows_fill_tiles(self.width)
        reach = [(extent - 1) * step for extent, step in zip(window, self.dilation, strict=True)]
        split = self.may_wrap and self.strides != (1, 1)
        self.phases = [min(s, far + 1) if split else 1 for s, far in zip(self.strides, reach, strict=True)]
        has_idle_lanes = channels % int(x.shape[4]) != 0
        self.has_phases = split or any(geometry.padding) or (clear and has_idle_lanes)
        if not self.has_phases:
            self.source, columns = x, W
        elif self.may_wrap:
            rows, columns = (
                extent + far // stride
                for extent, far, stride in zip((self.height, self.width), reach, self.strides, strict=True)
            )
            self.source = self._copy(x, geometry, (rows, columns), self.strides)
        else:
            top, left, bottom, right = geometry.padding
            self.source = self._copy(x, geometry, (H + top + bottom, W + left + right), (1, 1))
        self.pitch = columns if self.may_wrap else self.width

    def _copy(
        self, x: te.Tensor, geometry: Conv2dGeometry, extents: tuple[int, int], strides: tuple[int, int]
    ) -> te.Tensor:
        (top, left, _, _), (H, W) = geometry.padding, x.shape[2:4]

        def inside_or_zero(*index: tirx.Var) -> tirx.Expr:
            n, c, phase, row, column, lane = index
            h = row * strides[0] + tirx.floordiv(phase, self.phases[1]) - top
            w = column * strides[1] + tirx.floormod(phase, self.phases[1]) - left
            used = c * x.shape[4] + lane < self.channels
            inside = tirx.all(h >= 0, h < H, w >= 0, w < W, used)
            return tirx.if_then_else(inside, bits(x(n, c, h, w, lane)), tirx.const(0, "uint16"))

        shape = (*x.shape[:2], self.phases[0] * self.phases[1], *extents, x.shape[4])
        return te.compute(shape, inside_or_zero, name="pad")

    def operand(self, place: tirx.Expr, r: tirx.Expr, s: tirx.Expr) -> list[tirx.Expr]:
        """The indices of ``source`` between channel blocks and channels, for an element of the window."""
        down, right = r * self.dilation[0], s * self.dilation[1]
        if not self.may_wrap:
            h = tirx.floordiv(place, self.pitch) * self.strides[0] + down
            w = tirx.floormod(place, self.pitch) * self.strides[1] + right
            return [0, h, w] if self.has_phases else [h, w]
        (phase_h, down), (phase_w, right) = (
            (tirx.floormod(far, stride), tirx.floordiv(far, stride))
            for far, stride in zip((down, right), self.strides, strict=True)
        )
        flat = place + down * self.pitch + right
        index = [tirx.floordiv(flat, self.pitch), tirx.floormod(flat, self.pitch)]
        return [phase_h * self.phases[1] + phase_w, *index] if self.has_phases else index


def _rows_fill_tiles(width: int) -> bool:
    """Whether tiles that end with each row of a result leave little unused, and come in twos."""
    tiles = -(-width // TILE_ROWS)
    return tiles > 1 and width >= 13 * tiles
