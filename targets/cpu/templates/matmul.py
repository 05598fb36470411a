"""Matrix multiplication by packed panels: a tile of rows times panels in registers, panels kept in cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise
from .register_kernel import STAGING_STEPS, accumulate, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import schedule_rest

KIND = "matmul_packed"


@dataclass(frozen=True)
class MatmulWorkload:
    """rows (None if symbolic) times inner times panels * lanes columns."""

    rows: int | None
    inner: int
    panels: int
    lanes: int


@dataclass(frozen=True)
class MatmulConfig:
    """The accumulators: rows by panels."""

    tile: RegisterTile


class MatmulTemplate:
    """See the module's description."""

    name = "matmul"

    def matches(self, sch: Schedule) -> MatmulWorkload | None:
        anchor = anchor_block(sch, KIND)
        if anchor is None:
            return None
        _, panels, lanes, inner = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        rows: int | None = 1
        for extent in loop_extents(sch, crop)[:-1]:
            rows = None if rows is None or extent is None else rows * extent
        assert panels and lanes and inner  # weights are constants
        return MatmulWorkload(rows, inner, panels, lanes)

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
        m, panel, lane, k = sch.get_loops(anchor)[-4:]
        accumulate(sch, anchor, [k], [m, panel], lane)


def _problem(workload: MatmulWorkload) -> TileProblem:
    return TileProblem(workload.rows, workload.panels, workload.inner * workload.lanes * 4)


def _tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, workload: MatmulWorkload, tile: RegisterTile
) -> None:
    *rows, n = sch.get_loops(last)
    m = sch.fuse(*rows) if len(rows) > 1 else rows[0]
    m, m_inner = sch.split(m, [None, tile.rows])
    n, n_inner, lane = sch.split(n, [None, tile.vectors, workload.lanes])
    sch.reorder(n, m, m_inner, n_inner, lane)
    at = parallelise(sch, [n, m])
    exact = workload.rows is not None and workload.rows % tile.rows == 0
    place_tile(sch, anchor, last, at, staged=not exact or workload.inner >= STAGING_STEPS)
