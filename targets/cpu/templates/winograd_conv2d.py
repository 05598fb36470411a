"""Winograd convolution in one kernel: the transformed tiles of a block stay in the second-level cache.

For a block of tiles the kernel transforms all input channels, and then, for some output channels at a time,
multiplies at each position of the tiles, transforms back and runs the epilogue. Transforms take one vector of
channels after the other, columns first; in between, a tile is on the stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.winograd import WINDOW, TileGrid, Tiling
from ..machine import Machine
from ..prefetch import PositionSweep, RowTiles, mark_position_prefetch
from .blocks import (
    anchor_block,
    inline_epilogue,
    is_parameter,
    loop_extents,
    parallelise_nest,
    unroll_all,
)
from .register_kernel import accumulate
from .register_tile import RegisterTile
from .spatial import schedule_rest
from .tile_edges import ask_once_for_columns
from .tile_prefetch import MapSweep, fetch_tiles
from .tile_walk import TilePlace, grid_of, skip_missing_tiles, walk_tiles
from .winograd_schedule import AHEAD, WinogradConfig, WinogradWorkload, best_config, configs

KIND = "winograd_conv2d"
CACHE_PAGE = 1024
"""Elements of float32 after which first-level caches use the same lines again."""
POSITION_SKEW = 80
"""How far, modulo ``CACHE_PAGE``, positions of a tile lie from each other: five lines, so that a transform
does not write all of them to the same few lines."""


@dataclass(frozen=True)
class _Stages:
    """The blocks of the kernel, in their order."""

    input_columns: SBlockRV
    input_tiles: SBlockRV
    products: SBlockRV
    output_columns: SBlockRV
    output_tiles: SBlockRV
    output: SBlockRV


class WinogradConv2dTemplate:
    """See the module's description."""

    name = "winograd_conv2d"
    version = 4

    def matches(self, sch: Schedule) -> WinogradWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        images, out_blocks, blocks, size, _, tiles, lanes, channels = loop_extents(sch, anchor)
        if out_blocks is None or size is None or tiles is None or lanes is None or channels is None:
            return None
        all_blocks = None if images is None or blocks is None else images * blocks
        return WinogradWorkload(size - WINDOW + 1, tiles, all_blocks, out_blocks, channels, lanes)

    def space(self, workload: WinogradWorkload, machine: Machine) -> Iterator[WinogradConfig]:
        return configs(workload, machine)

    def default(self, workload: WinogradWorkload, machine: Machine) -> WinogradConfig:
        config = best_config(workload, machine)
        prefetch = _sweep(workload, config.tile).gains_from_prefetching
        return replace(config, prefetch=prefetch, ahead=0 if workload.blocks is None else AHEAD[-1])

    def apply(self, sch: Schedule, workload: WinogradWorkload, config: WinogradConfig) -> None:
        stages = _stages(sch)
        tiles = _producer(sch, stages.input_columns)
        schedule_rest(sch, tiles, *vars(stages).values())
        block, channels = _output(sch, stages, workload, config)
        sch.compute_at(stages.products, channels, preserve_unit_loops=True)
        _input(sch, stages, None if config.shared else block)
        _gather(sch, tiles, stages.input_columns, static=workload.blocks is not None)
        register_tiles, step = _products(sch, stages.products, workload, config.tile)
        if config.prefetch:
            mark_position_prefetch(sch, step, _sweep(workload, config.tile))
        grid = grid_of(sch, stages.output, Tiling(workload.tile, workload.tiles))
        if workload.blocks is None:
            _skip_missing(sch, stages, register_tiles, grid)
        else:
            _fetch_maps(sch, stages, grid, config.ahead)
            ask_once_for_columns(sch, sch.get_loops(stages.input_columns)[-3], stages.input_columns, axis=5)


@dataclass(frozen=True)
class TransformedFilters:
    """A parameter of a kernel that holds filters in Winograd's form, and the extent of its tiles."""

    parameter: tirx.Var
    tile: int


def transformed_filters(sch: Schedule) -> TransformedFilters | None:
    """The filters that a Winograd kernel is handed; None for any other kernel."""
    products = anchor_block(sch, KIND)
    if products is None:
        return None
    size = loop_extents(sch, products)[3]
    assert size is not None
    (filters,) = (r.source for r in sch.get(products).reads if is_parameter(sch, r.source))
    return TransformedFilters(filters, size - WINDOW + 1)


def _producer(sch: Schedule, block: SBlockRV) -> SBlockRV:
    (producer,) = sch.get_producers(block)
    return producer


def _stages(sch: Schedule) -> _Stages:
    """The blocks; what follows the convolution goes into the last one."""
    products = anchor_block(sch, KIND)
    assert products is not None
    input_tiles = _producer(sch, products)
    input_columns = _producer(sch, input_tiles)
    (output_columns,) = sch.get_consumers(products)
    (output_tiles,) = sch.get_consumers(output_columns)
    last = inline_epilogue(sch, output_tiles)
    return _Stages(input_columns, input_tiles, products, output_columns, output_tiles, last)


def _output(
    sch: Schedule, stages: _Stages, workload: WinogradWorkload, config: WinogradConfig
) -> tuple[LoopRV, LoopRV]:
    """Schedules the inverse transform; returns the loops over blocks of tiles and over output channels."""
    walk_tiles(sch, stages.output, workload.tile)
    n, o, block, tile, a, b, lane = sch.get_loops(stages.output)
    o, o_inner = sch.split(o, [None, config.tile.vectors])
    sch.reorder(n, block, o, o_inner, tile, a, b, lane)
    if config.shared:
        block = o = parallelise_nest(sch, [n, block, o])
    else:
        block = parallelise_nest(sch, [n, block])
    sch.vectorize(lane)
    sch.compute_at(stages.output_tiles, tile, preserve_unit_loops=True)
    *_, a, b, lane = sch.get_loops(stages.output_tiles)
    sch.vectorize(lane)
    sch.unroll(b)
    sch.compute_at(stages.output_columns, tile, preserve_unit_loops=True)
    *_, a, j, place, lane = sch.get_loops(stages.output_columns)
    sch.reorder(place, j, a, lane)
    sch.vectorize(lane)
    sch.unroll(a)
    return block, o


def _input(sch: Schedule, stages: _Stages, block: LoopRV | None) -> None:
    """Schedules the transform of the input, within ``block`` or before everything else."""
    if block is not None:
        sch.compute_at(stages.input_tiles, block, preserve_unit_loops=True)
    n, blocks, i, j, c, tile, lane = sch.get_loops(stages.input_tiles)[-7:]
    sch.reorder(n, blocks, c, tile, i, j, lane)
    if block is None:
        parallelise_nest(sch, [n, blocks, c])
    sch.vectorize(lane)
    sch.unroll(j)
    sch.storage_align(stages.input_tiles, 0, axis=3, factor=CACHE_PAGE, offset=POSITION_SKEW)
    sch.compute_at(stages.input_columns, tile, preserve_unit_loops=True)
    *_, i, column, lane = sch.get_loops(stages.input_columns)
    sch.reorder(column, i, lane)
    sch.vectorize(lane)
    sch.unroll(i)


def _gather(sch: Schedule, tiles: SBlockRV, columns: SBlockRV, *, static: bool) -> None:
    """Has ``columns``, scheduled, read the input itself, or a copy of a tile: where extents are symbolic, TVM
    takes seconds to simplify what becomes of the conditions at the map's edges, once for each of the terms.
    """
    if static:
        sch.compute_inline(tiles)
        return
    sch.compute_at(tiles, sch.get_loops(columns)[-4], preserve_unit_loops=True)
    sch.vectorize(sch.get_loops(tiles)[-1])


def _skip_missing(sch: Schedule, stages: _Stages, register_tiles: LoopRV, grid: TileGrid) -> None:
    """Leaves out tiles behind the end of the map."""
    input_tile, output_tile = (sch.get_loops(stage)[-4] for stage in (stages.input_tiles, stages.output))
    skip_missing_tiles(sch, grid, input_tile, TilePlace(stages.input_tiles, block=1, place=5))
    skip_missing_tiles(sch, grid, register_tiles, TilePlace(stages.products, block=2, place=5))
    skip_missing_tiles(sch, grid, output_tile, TilePlace(stages.output, block=2, place=3))


def _fetch_maps(sch: Schedule, stages: _Stages, grid: TileGrid, distance: int) -> None:
    """Has the transforms fetch what they will read and write of maps, ``distance`` tiles before."""
    if not distance:
        return
    reader, writer = sch.get(stages.input_columns), sch.get(stages.output)
    read = [region.source for region in reader.reads if is_parameter(sch, region.source)]
    place = TilePlace(stages.input_tiles, block=1, place=5)
    sweep = MapSweep(grid, place, image=0, channels=4, shift=1, distance=distance)
    fetch_tiles(sch, sch.get_loops(stages.input_tiles)[-4], sweep, read)
    written = [r.source for r in (*writer.reads, *writer.writes) if is_parameter(sch, r.source)]
    place = TilePlace(stages.output, block=2, place=3)
    sweep = MapSweep(grid, place, image=0, channels=1, shift=0, distance=distance)
    fetch_tiles(sch, sch.get_loops(stages.output)[-4], sweep, written)


def _sweep(workload: WinogradWorkload, tile: RegisterTile) -> PositionSweep:
    return PositionSweep(
        panel_axis=1,
        panels=tile.vectors,
        steps=workload.channels,
        step_bytes=workload.lanes * 4,
        rows=RowTiles(axis=5, rows=tile.rows, tiles=workload.tiles // tile.rows),
    )


def _products(
    sch: Schedule, products: SBlockRV, workload: WinogradWorkload, tile: RegisterTile
) -> tuple[LoopRV, LoopRV]:
    """Returns the loop over register tiles, and the innermost loop of the reduction."""
    n, o, block, i, j, t, lane, c = sch.get_loops(products)[-8:]
    t, t_inner = sch.split(t, [None, tile.rows])
    sch.reorder(n, block, i, j, t, c, t_inner, o, lane)
    copy = sch.cache_write(products, 0, "local")
    sch.reverse_compute_at(copy, t, preserve_unit_loops=True)
    *copy_loops, copy_lane = sch.get_loops(copy)[-7:]
    sch.vectorize(copy_lane)
    unroll_all(sch, copy_loops)
    whole = workload.channels % workload.lanes == 0
    reduction = list(sch.split(c, [None, workload.lanes])) if whole else [c]
    accumulate(sch, products, reduction, [t_inner, o], lane)
    return t, reduction[-1]
