"""Matrix multiplication by packed panels: a tile of rows times panels in registers, panels kept in cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from ..prefetch import PanelSweep, RowTiles, mark_prefetch
from .blocks import anchor_block, inline_epilogue, is_parameter, loop_extents, parallelise_nest
from .register_kernel import STAGING_STEPS, accumulate, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import schedule_rest

KIND = "matmul_packed"


@dataclass(frozen=True)
class MatmulWorkload:
    """A product of [rows, inner] and [inner, panels * lanes], for every index of the batch axes.

    Symbolic extents are None; the last panel may be partly empty. Weights come packed; an activation is
    packed by the kernel.
    """

    batch_axes: int
    rows: int | None
    inner: int | None
    panels: int | None
    lanes: int
    whole_panels: bool
    packed_before: bool


@dataclass(frozen=True)
class MatmulConfig:
    """The accumulators: rows by panels."""

    tile: RegisterTile


class MatmulTemplate:
    """See the module's description."""

    name = "matmul"
    version = 1

    def matches(self, sch: Schedule) -> MatmulWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        *batch, _, panels, lanes, inner = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        *_, rows, columns = loop_extents(sch, crop)
        if lanes is None:
            return None
        whole = panels is not None and columns == panels * lanes
        packed = is_parameter(sch, sch.get(anchor).reads[1].source)
        return MatmulWorkload(len(batch), rows, inner, panels, lanes, whole, packed)

    def space(self, workload: MatmulWorkload, machine: Machine) -> Iterator[MatmulConfig]:
        return (MatmulConfig(tile) for tile in tiles(_problem(workload), machine))

    def default(self, workload: MatmulWorkload, machine: Machine) -> MatmulConfig:
        return MatmulConfig(best_tile(_problem(workload), machine))

    def apply(self, sch: Schedule, workload: MatmulWorkload, config: MatmulConfig) -> None:
        anchor = anchor_block(sch, KIND)
        assert anchor is not None
        last = inline_epilogue(sch, anchor)
        schedule_rest(sch, anchor, last)
        _tile(sch, anchor, last, workload, config.tile)
        *tile, lane, k = sch.get_loops(anchor)[-4 - workload.batch_axes :]
        accumulate(sch, anchor, [k], tile, lane)
        sweep = _sweep(workload, config.tile)
        if sweep is not None and sweep.gains_from_prefetching:
            mark_prefetch(sch, k, sweep)


def _problem(workload: MatmulWorkload) -> TileProblem:
    return TileProblem(workload.rows, workload.panels, (workload.inner or 0) * workload.lanes * 4)


def _sweep(workload: MatmulWorkload, tile: RegisterTile) -> PanelSweep | None:
    """How the tiles of rows go over a group of panels; None where they are symbolic or just packed."""
    if workload.rows is None or workload.inner is None or not workload.packed_before:
        return None
    return PanelSweep(
        panel_axis=workload.batch_axes + 1,
        panels=tile.vectors,
        steps=workload.inner,
        step_bytes=workload.lanes * 4,
        row_axes=(RowTiles(workload.batch_axes, tile.rows, -(-workload.rows // tile.rows)),),
    )


def _tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, workload: MatmulWorkload, tile: RegisterTile
) -> None:
    *batch, m, n = sch.get_loops(last)
    m, m_inner = sch.split(m, [None, tile.rows])
    n, n_inner, lane = sch.split(n, [None, tile.vectors, workload.lanes])
    # Columns outside the rows, so that panels stay in cache.
    sch.reorder(*batch, n, m, m_inner, n_inner, lane)
    at = parallelise_nest(sch, [*batch, n, m])
    exact = workload.rows is not None and workload.rows % tile.rows == 0 and workload.whole_panels
    staged = not exact or workload.inner is None or workload.inner >= STAGING_STEPS
    place_tile(sch, anchor, last, at, staged=staged, whole_vectors=workload.whole_panels)
