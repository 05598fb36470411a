"""Reductions, softmax, normalisation and pooling.

Where the reduced axes are the innermost ones, each row is worked on while it is in cache: all blocks that
share the rows run under one parallel loop. Otherwise every block is scheduled by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute import WORKLOAD
from ....passes.compute.divisors import divisors
from ....passes.compute.rows import COLUMN_REDUCTION, ROW_REDUCTION
from ..machine import Machine
from .blocks import (
    inline_spatial_producers,
    is_schedulable,
    is_spatial,
    parallelise,
    root_blocks,
    static_product,
)
from .spatial import (
    BLOCK_ELEMENTS,
    SERIAL_WORK,
    VECTOR_ELEMENTS,
    parallelise_outer,
    schedule_spatial,
    vectorise_inner,
)

COLUMN_ELEMENTS = 1 << 16
"""So many elements of columns, of all their rows, are worked on at once: they fit the second-level cache."""
COLUMN_TASKS = 4
"""Columns are shared out in so many tasks at least."""


@dataclass(frozen=True)
class ReductionWorkload:
    """What is reduced.

    Attributes:
        row_axes: how many leading axes all blocks share as rows; 0 where there are none.
        column_axis: the axis of the result that columns run along; None where nothing reduces columns.
    """

    row_axes: int
    column_axis: int | None = None


class ReductionTemplate:
    """See the module's description."""

    name = "reduction"
    version = 3

    def matches(self, sch: Schedule) -> ReductionWorkload | None:
        if not is_schedulable(sch):
            return None
        blocks = root_blocks(sch)
        if all(is_spatial(sch, block) for block in blocks):
            return None
        column_axis = _column_axis(sch)
        return ReductionWorkload(_row_axes(sch) if column_axis is None else 0, column_axis)

    def space(self, workload: ReductionWorkload, machine: Machine) -> Iterator[None]:
        yield None

    def default(self, workload: ReductionWorkload, machine: Machine) -> None:
        return None

    def apply(self, sch: Schedule, workload: ReductionWorkload, config: None) -> None:
        inline_spatial_producers(sch)
        if workload.row_axes:
            _schedule_rows(sch, workload.row_axes)
            return
        if workload.column_axis is not None:
            _schedule_columns(sch, workload.column_axis)
            return
        for block in root_blocks(sch):
            if is_spatial(sch, block):
                schedule_spatial(sch, block)
            else:
                _schedule_alone(sch, block)


def _row_axes(sch: Schedule) -> int:
    """The number of leading spatial loops, equal in all blocks, with reductions only behind them."""
    nests = []
    for block in root_blocks(sch):
        iter_vars = sch.get(block).iter_vars
        spatial = [var for var in iter_vars if var.iter_type == tirx.IterVar.DataPar]
        if not is_spatial(sch, block) and not _reduces_innermost(sch, block):
            return 0
        nests.append([str(var.dom.extent) for var in spatial])
    reducing = [
        nest for nest, block in zip(nests, root_blocks(sch), strict=True) if not is_spatial(sch, block)
    ]
    rows = min(len(nest) for nest in reducing)
    while rows and any(nest[:rows] != nests[-1][:rows] for nest in nests):
        rows -= 1
    return rows


def _column_axis(sch: Schedule) -> int | None:
    """The axis along which columns that lie side by side are reduced, in blocks that are marked so."""
    marked = [b for b in root_blocks(sch) if sch.get(b).annotations.get(WORKLOAD) == COLUMN_REDUCTION]
    if not marked:
        return None
    stmt = sch.get(marked[0])
    (column,) = (var.var for var in stmt.iter_vars if var.iter_type == tirx.IterVar.CommReduce)
    (axis,) = (n for n, region in enumerate(stmt.reads[0].region) if region.min.same_as(column))
    return axis


def _schedule_columns(sch: Schedule, axis: int) -> None:
    """All blocks of some columns under one parallel loop: what they hand on stays in cache."""
    *others, last = root_blocks(sch)
    loops = list(sch.get_loops(last))
    column, lanes = loops.pop(axis), loops.pop()
    total = static_product(sch, [*loops, column, lanes])
    width = _columns_at_once(static_product(sch, loops), static_product(sch, [column]), sch.get(lanes).extent)
    if width is not None:
        tile, lanes = sch.split(lanes, [None, width])
        loops.append(tile)
    if not loops:
        loops = [sch.add_unit_loop(column)]
    sch.reorder(*loops, column, lanes)
    tasks = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    if total is None or total >= SERIAL_WORK:
        sch.parallel(tasks)
    for block in reversed(others):
        sch.compute_at(block, tasks, preserve_unit_loops=True)
        if not is_spatial(sch, block):
            *inner, reduced = list(sch.get_loops(block))[1:]
            sch.reorder(reduced, *inner)
            sch.decompose_reduction(block, reduced)


def _reduces_innermost(sch: Schedule, block: SBlockRV) -> bool:
    """Whether the fastest-moving axis of what ``block`` reads, of the largest rank, is one it reduces."""
    stmt = sch.get(block)
    if stmt.annotations.get(WORKLOAD) == ROW_REDUCTION:
        return True
    reduced = [var.var for var in stmt.iter_vars if var.iter_type == tirx.IterVar.CommReduce]
    regions = sorted((read.region for read in stmt.reads), key=len)
    return bool(regions and len(regions[-1])) and any(regions[-1][-1].min.same_as(var) for var in reduced)


def _schedule_rows(sch: Schedule, row_axes: int) -> None:
    *others, last = root_blocks(sch)
    rows = parallelise(sch, list(sch.get_loops(last))[:row_axes])
    for block in reversed(others):
        sch.compute_at(block, rows, preserve_unit_loops=False)
    for block in (*others, last):
        if is_spatial(sch, block):
            vectorise_inner(sch, list(sch.get_loops(block))[1:])
        else:
            _reduce_in_vectors(sch, block)


def _reduce_in_vectors(sch: Schedule, block: SBlockRV) -> None:
    """Keeps a row's partial results, where ``block`` computes such, in a vector."""
    loops = list(sch.get_loops(block))[1:]
    if len(loops) != 1 + _reduced_axes(sch, block) or not _is_multiple_of_vector(sch, loops[0]):
        if loops and static_product(sch, loops) is None:
            sch.decompose_reduction(block, loops[0])  # an empty loop would leave out the start inside it
        return
    lane, *reduced = loops
    sch.reorder(*reduced, lane)
    sch.vectorize(lane)
    start = sch.decompose_reduction(block, reduced[0])
    sch.vectorize(sch.get_loops(start)[-1])


def _reduced_axes(sch: Schedule, block: SBlockRV) -> int:
    """Over how many axes ``block`` reduces, not counting those of a single element; at least one."""
    kind = tirx.IterVar.CommReduce
    extents = [var.dom.extent for var in sch.get(block).iter_vars if var.iter_type == kind]
    return max(1, sum(not (isinstance(extent, tirx.IntImm) and int(extent) == 1) for extent in extents))


def _columns_at_once(tasks: int | None, rows: int | None, extent: tirx.Expr) -> int | None:
    """How many columns one task takes: a divisor of all, few enough for the cache and for all threads.

    None, which is all, where their number is symbolic.
    """
    if not isinstance(extent, tirx.IntImm):
        return None
    total = int(extent)
    most = min(COLUMN_ELEMENTS // max(rows or 1, 1), total * (tasks or 1) // COLUMN_TASKS)
    return max((width for width in divisors(total) if width <= max(most, VECTOR_ELEMENTS)), default=total)


def _loops_of(sch: Schedule, block: SBlockRV, kind: int) -> list[LoopRV]:
    """The loops around ``block`` that run over axes of ``kind``, outermost first."""
    kinds = [var.iter_type for var in sch.get(block).iter_vars]
    return [loop for loop, found in zip(sch.get_loops(block), kinds, strict=True) if found == kind]


def _schedule_alone(sch: Schedule, block: SBlockRV) -> None:
    """Parallel over the outer spatial axes, in vectors over the innermost one, reducing in between."""
    reduced = _loops_of(sch, block, tirx.IterVar.CommReduce)
    spatial = _loops_of(sch, block, tirx.IterVar.DataPar)
    total = static_product(sch, [*spatial, *reduced])
    inner: list[LoopRV] = []
    if spatial and static_product(sch, spatial[-1:]) in BLOCK_ELEMENTS:
        inner = [spatial.pop()]
        sch.vectorize(inner[0])
    elif spatial and _is_multiple_of_vector(sch, spatial[-1]):
        column, lane = sch.split(spatial.pop(), [None, VECTOR_ELEMENTS])
        sch.vectorize(lane)
        spatial, inner = [*spatial, column], [lane]
    elif len(spatial) > 1 and not _reduces_innermost(sch, block):
        inner = [spatial.pop()]
    sch.reorder(*spatial, *reduced, *inner)
    if spatial and (total is None or total >= SERIAL_WORK):
        (parallelise_outer if static_product(sch, spatial) is None else parallelise)(sch, spatial)
    sch.decompose_reduction(block, reduced[0])


def _is_multiple_of_vector(sch: Schedule, loop: LoopRV) -> bool:
    extent = static_product(sch, [loop])
    return extent is not None and extent % VECTOR_ELEMENTS == 0
