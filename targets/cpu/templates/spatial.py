"""Scheduling of one block that reduces nothing: parallel outside, contiguous vectors inside."""

from __future__ import annotations

from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from .blocks import inline_spatial_producers, parallelise_nest, root_blocks, static_product

SERIAL_WORK = 16384
"""Elements below which handing work to other threads costs more than it saves."""
PARALLEL_CHUNK = 4096
"""Elements of a one-dimensional walk that one task takes."""
VECTOR_ELEMENTS = 16
BLOCK_ELEMENTS = (8, 16)
"""What the innermost axis of a blocked layout has, with the vectors of AVX2 and of AVX-512."""
LEAST_TASKS = 16
"""Iterations that a loop over tasks should have, so that all threads get their share."""
LEAST_CUT = 64
"""Iterations from which a loop is cut where conditions change."""
MOST_PARTS = 9
"""A loop cut into so many parts, or more, would take more code than it saves time."""


@dataclass(frozen=True)
class SpatialConfig:
    """How a block that reduces nothing is scheduled.

    Attributes:
        chunk: elements of a one-dimensional walk that one task takes.
        vector: elements that are computed at once, where the extent is a multiple of it.
        serial_work: elements below which one thread does everything.
    """

    chunk: int = PARALLEL_CHUNK
    vector: int = VECTOR_ELEMENTS
    serial_work: int = SERIAL_WORK


DEFAULT_SPATIAL_CONFIG = SpatialConfig()


def schedule_spatial(sch: Schedule, block: SBlockRV, config: SpatialConfig = DEFAULT_SPATIAL_CONFIG) -> None:
    """Runs the outer loops of a spatial ``block`` in parallel and its innermost one in vectors."""
    loops = list(sch.get_loops(block))
    if not loops:
        return
    if _may_become_one(sch, loops) and _same_index_everywhere(sch, block):
        loops = [sch.fuse(*loops)] if len(loops) > 1 else loops
    total = static_product(sch, loops)
    serial = total is not None and total < config.serial_work
    if len(loops) == 1:
        loops = list(sch.split(loops[0], [None, config.chunk]))
    cuts = cut_places(sch, block, loops[-1])
    if len(loops) > 1 and cuts:
        if not serial:
            parallelise_nest(sch, loops[:-1])
        sch.loop_partition(loops[-1], cuts)
        return
    outer = vectorise_inner(sch, loops, config.vector)
    if outer and not serial:
        parallelise_outer(sch, outer)


def parallelise_outer(sch: Schedule, loops: list[LoopRV]) -> None:
    """Parallelises the loops outside a vector.

    The innermost of several stays serial, for plain addresses, unless that leaves too little to share.
    """
    tasks = static_product(sch, loops[:-1])
    enough = len(loops) > 1 and (tasks is None or tasks >= LEAST_TASKS)
    parallelise_nest(sch, loops[:-1] if enough else loops)


def cut_places(sch: Schedule, block: SBlockRV, loop: LoopRV) -> list[int | None]:
    """Into what extents ``loop`` falls where ``block`` compares its index with constants: parts of a
    concatenation, or the edges of padding. Each part is then free of conditions. None is the last; empty
    where there is nothing to cut.
    """
    extent, statement = sch.get(loop).extent, sch.get(block)
    if not isinstance(extent, tirx.IntImm) or int(extent) < LEAST_CUT:
        return []
    axis = statement.iter_vars[-1].var
    comparisons: list[tirx.Expr] = []
    for kind in (tirx.LT, tirx.LE, tirx.GT, tirx.GE):
        tvm_ffi.structural_walk(statement.body, (kind, comparisons.append))
    places = {place for comparison in comparisons for place in _places(comparison, axis)}
    inner = sorted(place for place in places if 0 < place < int(extent))
    if not inner or len(inner) >= MOST_PARTS:
        return []
    return [*(end - begin for begin, end in zip([0, *inner], inner, strict=False)), None]


def _places(comparison: tirx.Expr, axis: tirx.Var) -> list[int]:
    """The first index from which on a comparison of ``axis`` with a number is another; empty for others."""
    a, b = comparison.a, comparison.b
    if axis.same_as(a) and isinstance(b, tirx.IntImm):
        return [int(b) + isinstance(comparison, tirx.LE | tirx.GT)]
    if axis.same_as(b) and isinstance(a, tirx.IntImm):
        return [int(a) + isinstance(comparison, tirx.LT | tirx.GE)]
    return []


def schedule_rest(sch: Schedule, *scheduled: SBlockRV) -> None:
    """Schedules the root blocks other than ``scheduled``: padding before an anchor, broadcasts behind it."""
    names = {sch.get(block).name_hint for block in scheduled}
    inline_spatial_producers(sch, keep=names)
    for block in root_blocks(sch):
        if sch.get(block).name_hint not in names:
            schedule_spatial(sch, block)


def padding_block(sch: Schedule, anchor: SBlockRV, last: SBlockRV) -> SBlockRV:
    """The block that writes the padded input of ``anchor``; what stands before it becomes part of it.

    Args:
        sch: the schedule.
        anchor: reads the padded input.
        last: the last block behind ``anchor``, with its epilogue.
    """
    inline_spatial_producers(sch, keep=[sch.get(block).name_hint for block in (anchor, last)])
    source = sch.get(anchor).reads[0].source
    (block,) = (b for b in sch.get_producers(anchor) if sch.get(b).writes[0].source.same_as(source))
    return block


def compute_within(sch: Schedule, block: SBlockRV, loop: LoopRV) -> None:
    """Has ``block``, a spatial one, write in each iteration of ``loop`` what is read in it, in vectors."""
    sch.compute_at(block, loop, preserve_unit_loops=True)
    vectorise_inner(sch, list(sch.get_loops(block)))


def vectorise_inner(sch: Schedule, loops: list[LoopRV], elements: int = VECTOR_ELEMENTS) -> list[LoopRV]:
    """Vectorises the innermost loop where its extent allows; returns the loops left outside of it.

    A symbolic extent, or one that is no multiple of a vector, stays a plain loop: LLVM vectorises it and
    adds the tail, which beats a guard on every vector.
    """
    if not loops:
        return []
    inner = loops[-1]
    extent = sch.get(inner).extent
    if isinstance(extent, tirx.IntImm) and int(extent) in (elements, *BLOCK_ELEMENTS):
        sch.vectorize(inner)
        return loops[:-1]
    if isinstance(extent, tirx.IntImm) and int(extent) % elements == 0:
        outer, lane = sch.split(inner, [None, elements])
        sch.vectorize(lane)
        return [*loops[:-1], outer]
    return loops[:-1]


def _may_become_one(sch: Schedule, loops: list[LoopRV]) -> bool:
    """Whether TVM can tell the indices of fused ``loops`` apart again, should the block need one by itself.

    It does so by dividing by the inner extents, and fails on some that are expressions.
    """
    return all(isinstance(sch.get(loop).extent, tirx.IntImm | tirx.Var) for loop in loops[1:])


def _same_index_everywhere(sch: Schedule, block: SBlockRV) -> bool:
    """Whether every access is a whole-buffer walk in storage order, so that the loops may become one."""
    stmt = sch.get(block)
    variables = [var.var for var in stmt.iter_vars]
    return all(
        len(region.region) == len(variables)
        and all(
            axis.min.same_as(var) and _extents_equal(extent, iter_var.dom.extent)
            for axis, var, extent, iter_var in zip(
                region.region, variables, region.source.shape, stmt.iter_vars, strict=True
            )
        )
        for region in (*stmt.reads, *stmt.writes)
    )


def _extents_equal(a: tirx.Expr, b: tirx.Expr) -> bool:
    if isinstance(a, tirx.IntImm) and isinstance(b, tirx.IntImm):
        return int(a) == int(b)
    return bool(a.same_as(b)) or str(a) == str(b)
