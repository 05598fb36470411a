"""Strassen's product in one kernel: the seven products of some columns stay in the second-level cache.

Each thread adds up the quadrants of all activations first. Then, for a group of panels at a time, it
multiplies, and adds the seven products up to a vector of each quadrant of the result, on which the epilogue
runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..machine import Machine
from ..prefetch import PositionSweep, RowTiles, mark_position_prefetch
from .blocks import anchor_block, inline_epilogue, is_parameter, loop_extents, parallelise, unroll_all
from .register_kernel import accumulate
from .register_tile import RegisterTile, TileProblem, cycles_per_product, tiles
from .spatial import schedule_rest

KIND = "strassen_matmul"


@dataclass(frozen=True)
class StrassenWorkload:
    """A product of [..., 2 rows, 2 inner] and [2 inner, 2 panels * lanes]: the extents are a quadrant's.

    Before the rows stand ``batch_axes`` with ``batch`` elements in all.
    """

    batch_axes: int
    batch: int
    rows: int
    inner: int
    panels: int
    lanes: int


@dataclass(frozen=True)
class StrassenConfig:
    """A schedule.

    Attributes:
        tile: the accumulators: rows, which divide a quadrant's, by panels.
        shares: tasks that divide the panels. Each adds up the quadrants for itself: that takes less time than
            to fetch what another thread has in its cache.
        unroll: reduction steps in the body of the innermost loop.
        prefetch: whether the weights of the next product are fetched early.
    """

    tile: RegisterTile
    shares: int
    unroll: int
    prefetch: bool


class StrassenMatmulTemplate:
    """See the module's description."""

    name = "strassen_matmul"
    version = 1

    def matches(self, sch: Schedule) -> StrassenWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        extents = [extent for extent in loop_extents(sch, anchor) if extent is not None]
        *batch, _, panels, rows, lanes, inner = extents
        return StrassenWorkload(len(batch), math.prod(batch), rows, inner, panels, lanes)

    def space(self, workload: StrassenWorkload, machine: Machine) -> Iterator[StrassenConfig]:
        unrollings = [steps for steps in (1, 2, 4, 8) if workload.inner % steps == 0]
        for tile in tiles(_problem(workload), machine):
            shares = {1, _shares(workload, tile, machine)}
            for choice in itertools.product(sorted(shares), unrollings, (False, True)):
                yield StrassenConfig(tile, *choice)

    def default(self, workload: StrassenWorkload, machine: Machine) -> StrassenConfig:
        problem = _problem(workload)
        tile = min(tiles(problem, machine), key=partial(cycles_per_product, problem=problem, machine=machine))
        sweep = _sweep(workload, tile)
        shares = _shares(workload, tile, machine)
        return StrassenConfig(tile, shares, unroll=1, prefetch=sweep.lines_per_tile <= sweep.steps)

    def apply(self, sch: Schedule, workload: StrassenWorkload, config: StrassenConfig) -> None:
        products = anchor_block(sch, KIND)
        assert products is not None
        (left,) = sch.get_producers(products)
        (quadrants,) = sch.get_consumers(products)
        last = inline_epilogue(sch, quadrants)
        schedule_rest(sch, left, products, quadrants, last)
        share, group = _result(sch, quadrants, last, workload, config)
        sch.compute_at(products, group, preserve_unit_loops=True)
        step = _products(sch, products, config)
        if config.prefetch:
            mark_position_prefetch(sch, step, _sweep(workload, config.tile))
        sch.compute_at(left, share, preserve_unit_loops=True)
        _left_hand_sides(sch, left, workload)


def transformed_weight(sch: Schedule) -> tirx.Var | None:
    """The parameter that holds the sums of a right-hand side's quadrants; None for any other kernel."""
    products = anchor_block(sch, KIND)
    if products is None:
        return None
    (weight,) = (r.source for r in sch.get(products).reads if is_parameter(sch, r.source))
    return weight


def _problem(workload: StrassenWorkload) -> TileProblem:
    bytes_reused = workload.inner * workload.lanes * 4
    return TileProblem(workload.rows, workload.panels, bytes_reused, whole_rows=True)


def _shares(workload: StrassenWorkload, tile: RegisterTile, machine: Machine) -> int:
    """As many as there are cores, if batches and groups of panels can be divided so."""
    return math.gcd(workload.panels // tile.vectors, machine.cores // math.gcd(workload.batch, machine.cores))


def _sweep(workload: StrassenWorkload, tile: RegisterTile) -> PositionSweep:
    return PositionSweep(
        panel_axis=workload.batch_axes + 1,
        panels=tile.vectors,
        steps=workload.inner,
        step_bytes=workload.lanes * 4,
        rows=RowTiles(axis=workload.batch_axes + 2, rows=tile.rows, tiles=workload.rows // tile.rows),
        wraps=True,
    )


def _result(
    sch: Schedule, quadrants: SBlockRV, last: SBlockRV, workload: StrassenWorkload, config: StrassenConfig
) -> tuple[LoopRV, LoopRV]:
    """Schedules the sums of products with the epilogue; returns the loops over shares and their groups."""
    *batch, m, n = sch.get_loops(last)
    row, m = sch.split(m, [2, None])
    factors = [2, config.shares, None, config.tile.vectors, workload.lanes]
    column, share, group, panel, lane = sch.split(n, factors)
    sch.reorder(*batch, share, group, m, panel, row, column, lane)
    share = parallelise(sch, [*batch, share])
    sch.vectorize(lane)
    unroll_all(sch, [row, column])
    sch.compute_at(quadrants, column, preserve_unit_loops=True)
    *around, lane = sch.get_loops(quadrants)[-5:]
    sch.vectorize(lane)
    unroll_all(sch, around)
    return share, group


def _products(sch: Schedule, products: SBlockRV, config: StrassenConfig) -> LoopRV:
    """Returns the innermost loop of the reduction."""
    product, panel, m, lane, k = sch.get_loops(products)[-5:]
    m, m_inner = sch.split(m, [None, config.tile.rows])
    sch.reorder(product, m, k, m_inner, panel, lane)
    copy = sch.cache_write(products, 0, "local")
    sch.reverse_compute_at(copy, m, preserve_unit_loops=True)
    *copy_loops, copy_lane = sch.get_loops(copy)[-4:]
    sch.vectorize(copy_lane)
    unroll_all(sch, copy_loops)
    reduction = list(sch.split(k, [None, config.unroll])) if config.unroll > 1 else [k]
    accumulate(sch, products, reduction, [m_inner, panel], lane)
    if config.unroll > 1:
        sch.unroll(reduction[-1])
    return reduction[-1]


def _left_hand_sides(sch: Schedule, left: SBlockRV, workload: StrassenWorkload) -> None:
    """Schedules the sums of quadrants: every vector of the four is read once."""
    product, m, k = sch.get_loops(left)[-3:]
    k, lane = sch.split(k, [None, workload.lanes])
    sch.reorder(m, k, product, lane)
    sch.vectorize(lane)
    sch.unroll(product)
