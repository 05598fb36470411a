"""Data movement that changes which axis is the innermost one, in square tiles.

A cache line that is read, and one that is written, is used as a whole while it is in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from ..machine import Machine
from .blocks import inline_spatial_producers, is_schedulable, is_spatial, root_blocks, static_product
from .spatial import SERIAL_WORK, parallelise_outer

TILES = (4, 8, 16, 32)
DEFAULT_TILE = 16


@dataclass(frozen=True)
class TransposeWorkload:
    """Axes of the result, by number, and their extents; None where they are symbolic.

    Attributes:
        source_axis: the one along which the source is contiguous. The result is so along its last one.
        source_extent, last_extent: of the two.
    """

    source_axis: int
    source_extent: int | None
    last_extent: int | None


@dataclass(frozen=True)
class TransposeConfig:
    """The sides of a tile: along the source's innermost axis, and along the result's."""

    rows: int
    columns: int


class TransposeTemplate:
    """See the module's description."""

    name = "transpose"
    version = 2

    def matches(self, sch: Schedule) -> TransposeWorkload | None:
        if not is_schedulable(sch) or not all(is_spatial(sch, block) for block in root_blocks(sch)):
            return None
        inlined = sch.copy()
        inline_spatial_producers(inlined)
        blocks = root_blocks(inlined)
        axis = _source_axis(inlined, blocks[0]) if len(blocks) == 1 else None
        if axis is None:
            return None
        loops = inlined.get_loops(blocks[0])
        total = static_product(inlined, list(loops))
        source, last = (static_product(inlined, [loops[i]]) for i in (axis, -1))
        if min(source or TILES[0], last or TILES[0]) < TILES[0] or (total or SERIAL_WORK) < TILES[-1] ** 2:
            return None
        return TransposeWorkload(axis, source, last)

    def space(self, workload: TransposeWorkload, machine: Machine) -> Iterator[TransposeConfig]:
        return (TransposeConfig(rows, columns) for rows in TILES for columns in TILES)

    def default(self, workload: TransposeWorkload, machine: Machine) -> TransposeConfig:
        whole = (
            tile for tile in TILES if workload.last_extent is not None and workload.last_extent % tile == 0
        )
        return TransposeConfig(DEFAULT_TILE, min(max(whole, default=DEFAULT_TILE), DEFAULT_TILE))

    def apply(self, sch: Schedule, workload: TransposeWorkload, config: TransposeConfig) -> None:
        inline_spatial_producers(sch)
        (block,) = root_blocks(sch)
        *outer, last = sch.get_loops(block)
        row, row_inner = sch.split(outer.pop(workload.source_axis), [None, config.rows])
        column, column_inner = sch.split(last, [None, config.columns])
        sch.reorder(*outer, row, column, row_inner, column_inner)
        if workload.last_extent is not None and workload.last_extent % config.columns == 0:
            sch.vectorize(column_inner)
        total = static_product(sch, [*outer, row, column, row_inner, column_inner])
        if total is None or total >= SERIAL_WORK:
            parallelise_outer(sch, [*outer, row, column])


def _source_axis(sch: Schedule, block: SBlockRV) -> int | None:
    """The axis along which an operand is contiguous while it strides along the last one, if any."""
    statement = sch.get(block)
    axes = [var.var for var in statement.iter_vars]
    for read in statement.reads:
        *outer, inner = ([_used(region.min, axes) for region in read.region]) or [set()]
        if len(inner) == 1 and len(axes) - 1 not in inner and any(len(axes) - 1 in used for used in outer):
            return inner.pop()
    return None


def _used(index: tirx.Expr, axes: list[tirx.Var]) -> set[int]:
    """The numbers of the axes that occur in ``index``."""
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(index, (tirx.Var, found.append))
    return {number for number, axis in enumerate(axes) if any(axis.same_as(var) for var in found)}
