"""The steps that put a tile of accumulators into vector registers, for every kernel that reduces products."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from .blocks import static_product, unroll_all
from .spatial import VECTOR_ELEMENTS

STAGING_STEPS = 64
"""Reduction steps from which copying a finished tile through the first-level cache costs next to nothing."""


def place_tile(
    sch: Schedule,
    anchor: SBlockRV,
    epilogue: SBlockRV,
    at: LoopRV,
    *,
    staged: bool,
    whole_vectors: bool = True,
) -> None:
    """Computes the tile of ``anchor`` that ``epilogue`` needs in one iteration of ``at``.

    Args:
        sch: the schedule; the epilogue's loops below ``at`` are rows, vectors and, last, lanes.
        anchor: the block that reduces.
        epilogue: the block that consumes the tile.
        at: a loop around the epilogue.
        staged: whether the finished tile goes through a small buffer. Then the epilogue may stay a loop,
            with guards on the overrun, and its code stays small; else it is unrolled and reads registers.
        whole_vectors: whether the epilogue writes no partial vector. If it does, its lanes stay a loop,
            which LLVM turns into masked vectors.
    """
    *tile_loops, lane = loops_below(sch, epilogue, at)
    if whole_vectors:
        sch.vectorize(lane)
    if staged:
        # The copy stays in another storage scope: TVM would merge the two buffers of one scope, and a merged
        # one, which the epilogue indexes by loops, cannot live in registers.
        copy = sch.cache_write(anchor, 0, "local")
        sch.compute_at(copy, at, preserve_unit_loops=True)
        *copy_loops, copy_lane = loops_below(sch, copy, at)
        sch.vectorize(copy_lane)
        unroll_all(sch, copy_loops)
    else:
        unroll_all(sch, tile_loops)
        sch.set_scope(anchor, 0, "local")
    sch.compute_at(anchor, at, preserve_unit_loops=True)


def lanes_must_be_unrolled(sch: Schedule, epilogue: SBlockRV, columns: LoopRV) -> bool:
    """Whether LLVM's vectors would write behind the last of ``columns``.

    If a mask leaves one lane of a vector of numbers that are narrowed to 16 or 8 bits for the store, LLVM 22
    on x86 stores that lane with its bits before the narrowing.
    """
    extent = static_product(sch, [columns])
    dtype = str(sch.get(epilogue).writes[0].source.dtype)
    return extent is not None and extent % VECTOR_ELEMENTS == 1 and int(tvm.DataType(dtype).itemsize) < 4


def accumulate(
    sch: Schedule, anchor: SBlockRV, reduction: Sequence[LoopRV], tile: Sequence[LoopRV], lane: LoopRV
) -> None:
    """Orders the loops of ``anchor`` so that each reduction step updates the whole tile in registers."""
    sch.reorder(*reduction, *tile, lane)
    sch.vectorize(lane)
    unroll_all(sch, list(tile))
    start = sch.decompose_reduction(anchor, reduction[0])
    *start_tile, start_lane = sch.get_loops(start)[-len(tile) - 1 :]
    sch.vectorize(start_lane)
    unroll_all(sch, start_tile)


def loops_below(sch: Schedule, block: SBlockRV, at: LoopRV) -> list[LoopRV]:
    """The loops around ``block`` inside of ``at``, outermost first."""
    loops = list(sch.get_loops(block))
    variable = sch.get(at).loop_var
    depth = next(i for i, loop in enumerate(loops) if sch.get(loop).loop_var.same_as(variable))
    return loops[depth + 1 :]
