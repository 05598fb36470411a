"""Matrix products and convolutions on AMX: tiles of accumulators, sixteen rows of sixteen sums each.

Two tiles of rows meet two of columns, or one meets four, so that four independent sums hide the latency of a
product and each loaded tile takes part in two. A task computes some rows of a matrix, or of a map, for one
group of panels, and the epilogue runs on the finished sums. ``tile_instructions`` puts the instructions in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.conv2d_tiles import ROW_PITCH
from ....passes.compute.matmul_pairs import ROWS_OF_A_TASK
from ....passes.compute.pairs import CONV2D_TILES, MATMUL_TILES, TILE_ROWS
from ..machine import Machine
from ..tile_costs import ACCUMULATORS, TileConfig, TileWorkload, cycles
from ..tile_instructions import TILE_LANES, TilePlan, mark_tiles
from .blocks import (
    all_rows,
    anchor_block,
    inline_epilogue,
    is_parameter,
    loop_extents,
    parallelise_nest,
    take_rows_as_anchor_does,
    unroll_all,
)
from .register_kernel import lanes_must_be_unrolled
from .spatial import schedule_rest

MOST_POSITIONS = 256
"""Sums of a task stay in the first-level cache until the epilogue has read them."""


class TileProductTemplate:
    """See the module's description."""

    name = "tile_product"
    version = 3

    def matches(self, sch: Schedule) -> TileWorkload | None:
        for kind, describe in ((CONV2D_TILES, _conv2d_workload), (MATMUL_TILES, _matmul_workload)):
            anchor = anchor_block(sch, kind)
            if anchor is not None:
                return describe(sch, anchor)
        return None

    def space(self, workload: TileWorkload, machine: Machine) -> Iterator[TileConfig]:
        for panels in (1, 2):
            columns = panels * workload.lanes // TILE_LANES
            if workload.panels % panels == 0 and columns <= ACCUMULATORS:
                for row_tiles in range(1, ACCUMULATORS // columns + 1):
                    for rows, task in _tasks(workload, row_tiles):
                        yield from _with_sweeps(
                            workload, TileConfig(rows, row_tiles, panels, task, 0), machine
                        )

    def default(self, workload: TileWorkload, machine: Machine) -> TileConfig:
        return min(self.space(workload, machine), key=lambda config: cycles(workload, config, machine))

    def apply(self, sch: Schedule, workload: TileWorkload, config: TileConfig) -> None:
        anchor = anchor_block(sch, workload.kind)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        is_conv2d = workload.kind == CONV2D_TILES
        if not is_conv2d:
            take_rows_as_anchor_does(sch, anchor, last)
        at = (_split_conv2d if is_conv2d else _split_matmul)(sch, last, workload, config)
        axes = len(sch.get(anchor).iter_vars)
        sch.set_scope(anchor, 0, "local")
        sch.compute_at(anchor, at, preserve_unit_loops=True)
        row_axis, panel_axis = (2, 1) if is_conv2d else (axes - 4, axes - 3)
        slack = 0 if is_conv2d else ROWS_OF_A_TASK - 1
        sweep = workload.sweep_rows(config) if workload.has_constant_weights else 0
        pairs = _pairs_a_step(loop_extents(sch, anchor)[-1] or 0)
        plan = TilePlan(config.rows, config.row_tiles, pairs, slack, row_axis, panel_axis, sweep)
        mark_tiles(sch, sch.get_loops(anchor)[-axes], plan)


def _conv2d_workload(sch: Schedule, anchor: SBlockRV) -> TileWorkload | None:
    (crop,) = sch.get_consumers(anchor)
    images, panels, height, width, lanes = loop_extents(sch, crop)
    reduced = [extent or 0 for extent in loop_extents(sch, anchor)[4:]]
    steps = math.prod(reduced) // _pairs_a_step(reduced[-1])
    if panels is None or height is None or width is None or lanes is None:
        return None
    pitch = int(sch.get(anchor).annotations[ROW_PITCH])
    return TileWorkload(CONV2D_TILES, images or 1, height, width, pitch, panels, lanes, steps, True, True)


def _pairs_a_step(pairs: int) -> int:
    """A whole row of a tile; all pairs where they are less."""
    return TILE_ROWS if pairs % TILE_ROWS == 0 else pairs


def _matmul_workload(sch: Schedule, anchor: SBlockRV) -> TileWorkload | None:
    *batch, _, panels, lanes, pairs = loop_extents(sch, anchor)
    (crop,) = sch.get_consumers(anchor)
    *matrices, rows, columns = loop_extents(sch, crop)
    if len(matrices) > len(batch):
        rows = all_rows(sch, crop)
    if panels is None or lanes is None or pairs is None:
        return None
    whole = columns == panels * lanes
    constant = is_parameter(sch, sch.get(anchor).reads[1].source)
    products = math.prod(extent or 1 for extent in batch)
    steps = pairs // TILE_ROWS
    return TileWorkload(MATMUL_TILES, products, 1, rows, 0, panels, lanes, steps, whole, constant)


def _tasks(workload: TileWorkload, row_tiles: int) -> Iterator[tuple[int, int]]:
    """Rows of a tile, and what a task takes: rows of the matrix, or of the map.

    Where extents are known, no task has fewer rows than a tile: the last tile begins earlier instead.
    """
    if workload.width is None:
        if row_tiles == 2:
            yield TILE_ROWS, 2 * TILE_ROWS
    elif workload.kind == CONV2D_TILES:
        heights = range(1, workload.height + 1) if workload.pitch else (1,)
        for height in heights:
            positions = workload.positions(height)
            fits = workload.height % height == 0 and (positions <= MOST_POSITIONS or height == 1)
            yield from ((rows, height) for rows in _tile_rows(positions) if fits)
    else:
        yield from _matmul_tasks(workload.width, row_tiles)


def _matmul_tasks(extent: int, row_tiles: int) -> Iterator[tuple[int, int]]:
    for rows in _tile_rows(extent):
        step = rows * row_tiles
        tasks = {min(extent, step * count) for count in range(1, ROWS_OF_A_TASK // step + 1)}
        if extent <= ROWS_OF_A_TASK:
            tasks.add(extent)
        yield from ((rows, task) for task in sorted(tasks) if extent % task == 0 or extent % task >= rows)


def _tile_rows(extent: int) -> list[int]:
    """Full tiles, or as many that are about equally full."""
    tiles = -(-extent // TILE_ROWS)
    return sorted({min(TILE_ROWS, extent), -(-extent // tiles)})


def _with_sweeps(workload: TileWorkload, config: TileConfig, machine: Machine) -> Iterator[TileConfig]:
    """``config``, and with so few tasks in a sweep over panels that their rows stay in the cache.

    All sweeps have as many tasks: one too many would read behind the last row.
    """
    yield config
    if workload.kind != MATMUL_TILES or workload.width is None:
        return
    tasks, row_bytes = -(-workload.width // config.task), workload.steps * TILE_LANES * 4
    room = (machine.l2_bytes // 2) // (row_bytes * config.task)
    equal = (sweep for sweep in range(1, min(room, tasks - 1) + 1) if tasks % sweep == 0)
    if sweep := max(equal, default=0):
        yield replace(config, sweep=sweep)


def _split_conv2d(sch: Schedule, last: SBlockRV, workload: TileWorkload, config: TileConfig) -> LoopRV:
    n, o, h, w, lane = sch.get_loops(last)
    o, o_inner = sch.split(o, [None, config.panels])
    h, h_inner = sch.split(h, [None, config.task])
    sch.reorder(n, o, h, h_inner, w, o_inner, lane)
    sch.vectorize(lane)
    unroll_all(sch, [o_inner])
    return parallelise_nest(sch, [n, o, h])


def _split_matmul(sch: Schedule, last: SBlockRV, workload: TileWorkload, config: TileConfig) -> LoopRV:
    *batch, m, n = sch.get_loops(last)
    unrolled = lanes_must_be_unrolled(sch, last, n)
    m, m_inner = sch.split(m, [None, config.task])
    n, n_inner, lane = sch.split(n, [None, config.panels, workload.lanes])
    sweeps = []
    if config.sweep:
        sweep, m = sch.split(m, [None, config.sweep])
        sweeps = [sweep]
    sch.reorder(*batch, *sweeps, n, m, m_inner, n_inner, lane)
    if workload.whole_panels:
        sch.vectorize(lane)
    elif unrolled:
        sch.unroll(lane)
    unroll_all(sch, [n_inner])
    return parallelise_nest(sch, [*batch, *sweeps, n, m])
