"""Matrix multiplication by packed panels: a tile of rows times panels in registers, panels kept in cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from ..prefetch import PanelSweep, RowTiles, mark_prefetch
from .blocks import (
    all_rows,
    anchor_block,
    inline_epilogue,
    is_parameter,
    loop_extents,
    parallelise_nest,
    take_rows_as_anchor_does,
)
from .half_sums import accumulate_half_sums, multiplication_of
from .register_kernel import STAGING_STEPS, accumulate, lanes_must_be_unrolled, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import schedule_rest

KIND = "matmul_packed"


@dataclass(frozen=True)
class MatmulWorkload:
    """A product of [rows, inner] and [inner, panels * lanes], for every index of the batch axes.

    Symbolic extents are None; the last panel may be partly empty. Weights come packed; an activation is
    packed by the kernel. Where there are short sums of ``terms`` products, ``inner`` counts those;
    ``weight_bytes`` is what a lane reads for one.
    """

    batch_axes: int
    rows: int | None
    inner: int | None
    panels: int | None
    lanes: int
    whole_panels: bool
    packed_before: bool
    terms: int = 1
    weight_bytes: int = 4


@dataclass(frozen=True)
class MatmulConfig:
    """A schedule.

    Attributes:
        tile: the accumulators: rows by panels.
        row_block: how many tiles of rows meet all panels before the next ones; 0 if all rows meet a group of
            panels before the next group.
        staged: see ``place_tile``.
        unroll: reduction steps in the body of the innermost loop.
        prefetch: whether the next group of panels is fetched early.
    """

    tile: RegisterTile
    row_block: int
    staged: bool
    unroll: int
    prefetch: bool


class MatmulTemplate:
    """See the module's description."""

    name = "matmul"
    version = 2

    def matches(self, sch: Schedule) -> MatmulWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        *batch, _, panels, lanes, inner = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        *matrices, rows, columns = loop_extents(sch, crop)
        if len(matrices) > len(batch):
            rows = all_rows(sch, crop)
        if lanes is None:
            return None
        whole = panels is not None and columns == panels * lanes
        made = multiplication_of(sch, anchor)
        packed = is_parameter(sch, sch.get(made.block).reads[1].source)
        extents = len(batch), rows, inner, panels, lanes
        return MatmulWorkload(*extents, whole, packed, made.terms, made.weight_bytes)

    def space(self, workload: MatmulWorkload, machine: Machine) -> Iterator[MatmulConfig]:
        for tile in tiles(_problem(workload), machine):
            choices = itertools.product(
                _row_blocks(workload, tile), _stagings(workload, tile), _unrollings(workload)
            )
            for row_block, staged, unroll in choices:
                yield MatmulConfig(tile, row_block, staged, unroll, prefetch=False)
                if _prefetchable(workload, tile, row_block):
                    yield MatmulConfig(tile, row_block, staged, unroll, prefetch=True)

    def default(self, workload: MatmulWorkload, machine: Machine) -> MatmulConfig:
        tile = best_tile(_problem(workload), machine)
        sweep = _sweep(workload, tile, row_block=0)
        long = workload.inner is None or workload.inner * workload.terms >= STAGING_STEPS
        return MatmulConfig(
            tile,
            row_block=0,
            staged=long or False not in _stagings(workload, tile),
            unroll=1,
            prefetch=sweep is not None and sweep.gains_from_prefetching,
        )

    def apply(self, sch: Schedule, workload: MatmulWorkload, config: MatmulConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last, multiplication_of(sch, anchor).block)
        _tile(sch, anchor, last, workload, config)
        *tile, lane, k = sch.get_loops(anchor)[-4 - workload.batch_axes :]
        reduction = list(sch.split(k, [None, config.unroll])) if config.unroll > 1 else [k]
        accumulate(sch, anchor, reduction, tile, lane)
        if config.unroll > 1:
            sch.unroll(reduction[-1])
        accumulate_half_sums(sch, anchor, reduction[-1])
        sweep = _sweep(workload, config.tile, config.row_block)
        if config.prefetch and sweep is not None:
            mark_prefetch(sch, reduction[-1], sweep)


def _problem(workload: MatmulWorkload) -> TileProblem:
    panel_bytes = (workload.inner or 0) * workload.lanes * workload.weight_bytes
    return TileProblem(workload.rows, workload.panels, panel_bytes)


def _sweep(workload: MatmulWorkload, tile: RegisterTile, row_block: int) -> PanelSweep | None:
    """How the tiles of rows go over a group of panels; None where they are symbolic or just packed, and where
    a step takes several lines of weights, as the processor then fetches ahead by itself."""
    if workload.rows is None or workload.inner is None or not workload.packed_before or workload.terms > 1:
        return None
    return PanelSweep(
        panel_axis=workload.batch_axes + 1,
        panels=tile.vectors,
        steps=workload.inner,
        step_bytes=workload.lanes * workload.weight_bytes,
        row_axes=(RowTiles(workload.batch_axes, tile.rows, row_block or -(-workload.rows // tile.rows)),),
    )


def _row_blocks(workload: MatmulWorkload, tile: RegisterTile) -> tuple[int, ...]:
    if workload.rows is None or workload.panels is None or workload.panels == tile.vectors:
        return (0,)
    count = -(-workload.rows // tile.rows)
    # With halves and quarters, threads share the rows, and all go through the same weights.
    blocks = {1, 2, 4, 8, 16, count // 2, count // 4} - {0}
    return (0, *sorted(block for block in blocks if block < count and count % block == 0))


def _stagings(workload: MatmulWorkload, tile: RegisterTile) -> tuple[bool, ...]:
    exact = workload.rows is not None and workload.rows % tile.rows == 0 and workload.whole_panels
    return (False, True) if exact else (True,)


def _unrollings(workload: MatmulWorkload) -> tuple[int, ...]:
    inner = workload.inner
    return (1, *(steps for steps in (2, 4, 8) if inner is not None and inner % steps == 0 and steps < inner))


def _prefetchable(workload: MatmulWorkload, tile: RegisterTile, row_block: int) -> bool:
    """Whether a sweep over the rows has time to fetch the next group of panels."""
    sweep = _sweep(workload, tile, row_block)
    return sweep is not None and sweep.lines_per_tile <= sweep.steps


def _tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, workload: MatmulWorkload, config: MatmulConfig
) -> None:
    take_rows_as_anchor_does(sch, anchor, last)
    *batch, m, n = sch.get_loops(last)
    unrolled = lanes_must_be_unrolled(sch, last, n)
    m, m_inner = sch.split(m, [None, config.tile.rows])
    n, n_inner, lane = sch.split(n, [None, config.tile.vectors, workload.lanes])
    # Columns outside the rows, so that panels stay in cache.
    sch.reorder(*batch, n, m, m_inner, n_inner, lane)
    outer = [n, m]
    if config.row_block:
        m_outer, m = sch.split(m, [None, config.row_block])
        sch.reorder(m_outer, n, m)
        outer = [m_outer, n, m]
    if unrolled:
        sch.unroll(lane)
    at = parallelise_nest(sch, [*batch, *outer])
    place_tile(sch, anchor, last, at, staged=config.staged, whole_vectors=workload.whole_panels)
