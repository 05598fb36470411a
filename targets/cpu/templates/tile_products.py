"""Matrix products and convolutions on AMX: tiles of accumulators, sixteen rows of sixteen sums each.

Two tiles of rows meet two of columns, or one meets four, so that four independent sums hide the latency of a
product. Rows are those of a matrix, or neighbouring output columns of a convolution. The finished tiles go
through a small buffer to the epilogue. ``tile_instructions`` puts the instructions in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.pairs import CONV2D_TILES, MATMUL_TILES
from ..machine import Machine
from ..tile_instructions import TILE_LANES, TILE_ROWS, TilePlan, mark_tiles
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise_nest, unroll_all
from .register_kernel import lanes_must_be_unrolled
from .spatial import schedule_rest

ACCUMULATORS = 4


@dataclass(frozen=True)
class TileWorkload:
    """A product on tiles.

    Attributes:
        kind: ``CONV2D_TILES`` or ``MATMUL_TILES``.
        rows: of the matrix, or the width of the convolution's result.
        panels: blocks of columns, or of output channels.
        lanes: columns in a panel.
        whole_panels: whether the last panel is full.
    """

    kind: str
    rows: int
    panels: int
    lanes: int
    whole_panels: bool


@dataclass(frozen=True)
class TileConfig:
    """Tiles of ``rows`` rows: ``row_tiles`` of them meet those of ``panels`` panels."""

    rows: int
    row_tiles: int
    panels: int


class TileProductTemplate:
    """See the module's description."""

    name = "tile_product"
    version = 1

    def matches(self, sch: Schedule) -> TileWorkload | None:
        kinds = (kind for kind in (CONV2D_TILES, MATMUL_TILES) if anchor_block(sch, kind) is not None)
        kind = next(kinds, None)
        if kind is None:
            return None
        anchor = anchor_block(sch, kind)
        assert anchor is not None
        (crop,) = sch.get_consumers(anchor)
        extents = loop_extents(sch, anchor)
        if kind == CONV2D_TILES:
            rows, panels, lanes, whole = loop_extents(sch, crop)[3], extents[1], extents[4], True
        else:
            *_, panels, lanes, _ = extents
            *_, rows, columns = loop_extents(sch, crop)
            whole = panels is not None and lanes is not None and columns == panels * lanes
        if rows is None or panels is None or lanes is None:
            return None
        return TileWorkload(kind, rows, panels, lanes, whole)

    def space(self, workload: TileWorkload, machine: Machine) -> Iterator[TileConfig]:
        rows = _even_rows(workload.rows)
        for panels in (1, 2):
            tiles = panels * workload.lanes // TILE_LANES
            if workload.panels % panels == 0 and tiles <= ACCUMULATORS:
                most = min(ACCUMULATORS // tiles, -(-workload.rows // rows))
                yield from (TileConfig(rows, row_tiles, panels) for row_tiles in range(1, most + 1))

    def default(self, workload: TileWorkload, machine: Machine) -> TileConfig:
        return max(self.space(workload, machine), key=lambda c: (c.row_tiles * c.panels, c.row_tiles))

    def apply(self, sch: Schedule, workload: TileWorkload, config: TileConfig) -> None:
        anchor = anchor_block(sch, workload.kind)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        split = _split_conv2d if workload.kind == CONV2D_TILES else _split_matmul
        at = split(sch, last, workload, config)
        axes = len(sch.get(anchor).iter_vars)
        sch.set_scope(anchor, 0, "local")
        sch.compute_at(anchor, at, preserve_unit_loops=True)
        tile = sch.blockize(sch.get_loops(anchor)[-axes])
        row_axis, panel_axis = (3, 1) if workload.kind == CONV2D_TILES else (axes - 4, axes - 3)
        mark_tiles(sch, tile, TilePlan(config.rows, config.row_tiles, workload.rows, row_axis, panel_axis))


def _even_rows(rows: int) -> int:
    """Rows of a tile, so that the last tile is about as full as the others."""
    tiles = -(-rows // TILE_ROWS)
    return -(-rows // tiles)


def _split_conv2d(sch: Schedule, last: SBlockRV, workload: TileWorkload, config: TileConfig) -> LoopRV:
    n, o, h, w, lane = sch.get_loops(last)
    o, o_inner = sch.split(o, [None, config.panels])
    w, w_inner = sch.split(w, [None, config.rows * config.row_tiles])
    sch.reorder(n, o, h, w, w_inner, o_inner, lane)
    parallelise_nest(sch, [n, o, h])
    sch.vectorize(lane)
    unroll_all(sch, [o_inner])
    return w


def _split_matmul(sch: Schedule, last: SBlockRV, workload: TileWorkload, config: TileConfig) -> LoopRV:
    *batch, m, n = sch.get_loops(last)
    unrolled = lanes_must_be_unrolled(sch, last, n)
    m, m_inner = sch.split(m, [None, config.rows * config.row_tiles])
    n, n_inner, lane = sch.split(n, [None, config.panels, workload.lanes])
    sch.reorder(*batch, n, m, m_inner, n_inner, lane)
    if workload.whole_panels:
        sch.vectorize(lane)
    elif unrolled:
        sch.unroll(lane)
    unroll_all(sch, [n_inner])
    return parallelise_nest(sch, [*batch, n, m])
