"""Matrix multiplication by packed panels: a tile of rows times panels in registers, panels kept in cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ..machine import Machine
from .blocks import anchor_block, inline_epilogue, loop_extents, parallelise, static_product
from .register_kernel import STAGING_STEPS, accumulate, place_tile
from .register_tile import RegisterTile, TileProblem, best_tile, tiles
from .spatial import schedule_rest

KIND = "matmul_packed"


@dataclass(frozen=True)
class MatmulWorkload:
    """Rows (None if symbolic) times inner (likewise) times panels * lanes columns, for every index of the
    batch axes; the last panel may be partly empty."""

    batch_axes: int
    rows: int | None
    inner: int | None
    panels: int
    lanes: int
    whole_panels: bool


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
        *batch, _, panels, lanes, inner = loop_extents(sch, anchor)
        (crop,) = sch.get_consumers(anchor)
        rows = _product(loop_extents(sch, crop)[len(batch) : -1])
        assert panels and lanes  # weights are constants  # noqa: PT018
        columns = loop_extents(sch, crop)[-1]
        return MatmulWorkload(len(batch), rows, inner, panels, lanes, columns == panels * lanes)

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


def _product(extents: Sequence[int | None]) -> int | None:
    return None if None in extents else math.prod(extent for extent in extents if extent is not None)


def _problem(workload: MatmulWorkload) -> TileProblem:
    return TileProblem(workload.rows, workload.panels, (workload.inner or 0) * workload.lanes * 4)


def _tile(
    sch: Schedule, anchor: SBlockRV, last: SBlockRV, workload: MatmulWorkload, tile: RegisterTile
) -> None:
    loops = list(sch.get_loops(last))
    batch, rows, n = loops[: workload.batch_axes], loops[workload.batch_axes : -1], loops[-1]
    m = sch.fuse(*rows) if len(rows) > 1 else rows[0]
    m, m_inner = sch.split(m, [None, tile.rows])
    n, n_inner, lane = sch.split(n, [None, tile.vectors, workload.lanes])
    at = _parallelise(sch, batch, m, n, [m_inner, n_inner, lane])
    exact = workload.rows is not None and workload.rows % tile.rows == 0 and workload.whole_panels
    staged = not exact or workload.inner is None or workload.inner >= STAGING_STEPS
    place_tile(sch, anchor, last, at, staged=staged, whole_vectors=workload.whole_panels)


def _parallelise(sch: Schedule, batch: list[LoopRV], m: LoopRV, n: LoopRV, inner: list[LoopRV]) -> LoopRV:
    """Columns outside the rows, so that panels stay in cache; a symbolic number of rows has to be outside."""
    if static_product(sch, [m]) is not None:
        sch.reorder(*batch, n, m, *inner)
        return parallelise(sch, [*batch, n, m] if static_product(sch, batch) is not None else [n, m])
    sch.reorder(*batch, m, n, *inner)
    return parallelise(sch, [m, n])
